"""Fold the BN layers of a model into their neighboring layers.

The core knows neither Keras nor any other framework: `affine` has the algebra, `linear` folds a map
into a kernel, `clips` lets a map pass a ReLU, `graph` describes a model as calls and tensors,
`search` finds where a map can go, and `plan` decides for all layers. `keras` is a front end.
"""
