"""Transcendental functions as branch-free polynomials, emitted for any width, with an FMA and a no-FMA form.

`functions.py` holds the registry and `MathFunctions`; the files beside it hold the families; `coefficients.py` is
written by `python -m stager.codegen.math.generate`. Nothing here calls libm or a vector-maths library.
"""
