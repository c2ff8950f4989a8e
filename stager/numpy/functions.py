"""Imports every module that declares counterparts of NumPy functions, so that the tables are full."""

from stager.numpy import (  # noqa: F401  (they fill the tables)
    creation,
    creation_ranges,
    einsums,
    joining,
    linear,
    reductions,
    scans,
    selection,
    shaping,
    sorting,
)
from stager.numpy.registry import FUNCTIONS, METHODS, PROPERTIES, unsupported_function

__all__ = ["FUNCTIONS", "METHODS", "PROPERTIES", "unsupported_function"]
