"""The StableHLO form of a graph, for compilers that take it (XLA): see `to_stablehlo` for what it covers."""

from stager.ir.stablehlo.function import StableHLOError, to_stablehlo

__all__ = ["StableHLOError", "to_stablehlo"]
