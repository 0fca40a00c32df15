"""Normalizations folded into the linear layers beside them: models in, models out."""
