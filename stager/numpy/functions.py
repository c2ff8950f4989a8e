"""Imports every module that declares counterparts of NumPy functions, so that the tables are full."""

from stager.numpy import (  # noqa: F401  (they fill the tables)
    array_methods,
    bits,
    comparisons,
    creation,
    creation_ranges,
    decompositions,
    einsums,
    histograms,
    joining,
    linear,
    masks,
    nan_functions,
    norms,
    padding,
    polynomials,
    products,
    quantiles,
    queries,
    reductions,
    scans,
    selection,
    sets,
    shaping,
    sorting,
    spectra,
    statistics,
    subscripted,
    windows,
)
from stager.numpy.registry import FUNCTIONS, METHODS, PROPERTIES, unsupported_function

__all__ = ["FUNCTIONS", "METHODS", "PROPERTIES", "unsupported_function"]
