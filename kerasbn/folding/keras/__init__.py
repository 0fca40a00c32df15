"""Keras front end: read a Keras model as a flat graph, fold its layers, and check the result."""
