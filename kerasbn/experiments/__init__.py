"""What batch normalization does: comparisons, pictures, reports."""
