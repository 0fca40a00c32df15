"""Models with and without batch normalization, and how they are trained."""
