"""MNIST, from file to batches, and pictures of digits."""
