"""`Type`: a dtype and a shape whose dims are ints or symbolic expressions. Printed `f64[3,n]`, a scalar is `f64[]`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from stager.ir.dims import Dim, Expr, parse_dim, product
from stager.ir.dtypes import DType, dtype_named


@dataclass(frozen=True, slots=True)
class Type:
    """The type of one array value.

    >>> from stager.ir.dtypes import f64
    >>> Type(f64, (3, 4))
    f64[3,4]
    """

    dtype: DType
    shape: tuple[Dim, ...]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Dim:
        return product(self.shape)

    @property
    def nbytes(self) -> Dim:
        return self.size * self.dtype.itemsize

    @property
    def is_static(self) -> bool:
        return Expr not in map(type, self.shape)

    def with_shape(self, shape: tuple[Dim, ...]) -> Type:
        return Type(self.dtype, shape)

    def __str__(self) -> str:
        return f"{self.dtype.name}[{','.join(map(str, self.shape))}]"

    __repr__ = __str__


_TYPE = re.compile(r"\s*([a-z]+\d+)\s*\[(.*)\]\s*$", re.DOTALL)


def split_commas(text: str) -> list[str]:
    """Split at commas that stand outside brackets."""
    parts, depth, start = [], 0, 0
    for i, ch in enumerate(text):
        if ch in "([{":
            depth += 1
        elif ch in ")]}":
            depth -= 1
        elif ch == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    rest = text[start:]
    return [*parts, rest] if parts or rest.strip() else []


def parse_type(text: str) -> Type:
    """Parse `f64[3,n]`. ValueError when the text is no type.

    >>> parse_type("f32[2*n,3]")
    f32[2*n,3]
    """
    m = _TYPE.match(text)
    if m is None:
        raise ValueError(f"not a type: {text!r} (a type reads like 'f64[3,n]')")
    try:
        dtype = dtype_named(m[1])
    except KeyError:
        raise ValueError(f"no dtype is called {m[1]!r} in {text!r}") from None
    return Type(dtype, tuple(parse_dim(d.strip()) for d in split_commas(m[2])))
