"""Tests of the NumPy surface."""
