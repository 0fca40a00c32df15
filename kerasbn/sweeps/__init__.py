"""Sweeps: grids of trainings, on one machine or many, and what they say together."""
