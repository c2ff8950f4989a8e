"""The intermediate representation: types and dims, `Op`, `Node`, `Graph`, text form, verifier and passes.

Imports numpy and networkx only; everything below `stager/` is written for dims that may be symbolic.
"""

if __name__ != "stager.ir":
    raise ImportError("this folder is the package 'stager.ir'; import it under that name")
