"""The benchmark: workloads side by side with NumPy, jax, numba, torch and hand-written C, every result checked.

`python -m bench --help` says how to run it. A row compares medians of one interleaved run; figures of different runs
are compared only through their ratios. Peers are imported here and nowhere else.
"""
