"""Keras networks with and without batch normalization, and how they are trained."""
