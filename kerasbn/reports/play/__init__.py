"""The parts of a page that readers can play with: what they compute with, and where they stand."""
