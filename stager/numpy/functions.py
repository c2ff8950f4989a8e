"""Imports every module that declares counterparts of NumPy functions, so that the tables are full."""

from stager.numpy import creation, creation_ranges, joining, linear, reductions, selection, shaping  # noqa: F401  (fill the tables)
from stager.numpy.registry import FUNCTIONS, METHODS, PROPERTIES, unsupported_function

__all__ = ["FUNCTIONS", "METHODS", "PROPERTIES", "unsupported_function"]
