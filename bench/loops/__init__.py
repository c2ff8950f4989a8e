"""The programs of tests/programs in each peer's own idiom: numba loops, jax `lax` loops, C."""
