"""Arrays and arguments drawn at random: what the families of `keyword_cases.py` are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

FLOATS = [np.float64, np.float32]
INTEGERS: list[Any] = [np.int64, np.int32, np.int8, np.uint8, np.uint64, np.int16, np.uint16, np.uint32]
NUMBERS: list[Any] = [*FLOATS, *INTEGERS, np.bool_]
DTYPES: list[Any] = [*NUMBERS, float, int, bool, "f4", "i8", "float64", np.dtype("f8")]
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0]

Drawn = tuple[tuple[Any, ...], dict[str, Any]]  # positional arguments, keywords


class Draw:
    """A source of random arguments. Everything it gives follows from its seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def one(self, options: Sequence[Any]) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def array(
        self, ndim: int | Sequence[int] = (0, 1, 2, 3), dtype: Any = None, shape: Any = None, special: bool = True
    ) -> np.ndarray[Any, Any]:
        """An array: small, of any layout, now and then empty, with extreme values or with what is not finite."""
        if shape is None:
            axes = ndim if isinstance(ndim, int) else self.one(ndim)
            sizes = [1, 2, 3, 4, 5, 0] if self.chance(0.1) else [1, 2, 3, 4, 5]
            shape = tuple([self.one(sizes) for _ in range(axes)])
        d = np.dtype(self.one(FLOATS * 3 + NUMBERS) if dtype is None else dtype)
        x = self._floats(shape, d, special) if d.kind == "f" else self._others(shape, d)
        if x.ndim and self.chance(0.2):
            return x[::-1] if self.chance(0.5) else np.asfortranarray(x)
        return x

    def _floats(self, shape: Any, d: np.dtype[Any], special: bool) -> np.ndarray[Any, Any]:
        x = np.asarray((self.rng.standard_normal(shape) * self.one([1, 5])).astype(d))
        if special and x.size and self.chance(0.25):
            x.flat[int(self.rng.integers(x.size))] = self.one(SPECIAL)
        return np.asarray(np.round(x)) if self.chance(0.2) else x

    def _others(self, shape: Any, d: np.dtype[Any]) -> np.ndarray[Any, Any]:
        if d.kind == "b":
            return np.asarray(self.rng.random(shape) > 0.5)
        low, high = (0, 6) if d.kind == "u" else (-5, 6)
        if self.chance(0.15):
            low, high = np.iinfo(d).min, np.iinfo(d).max
        return np.asarray(self.rng.integers(low, high, shape, dtype=d))

    def mask(self, shape: Any) -> Any:
        return np.asarray(self.rng.random(shape) > 0.4)

    def axis(self, x: Any, several: bool = False, none: bool = True) -> Any:
        """An axis of x, or None, or a few; now and then one that x does not have."""
        n = np.ndim(x)
        if self.chance(0.03):
            return n
        choices: list[Any] = [*range(-n, n), *([None, None] if none else [])]
        if several and n >= 2:
            choices += [tuple(self.rng.permutation(n)[:2].tolist()), tuple(range(n)), (-1, 0)]
        return self.one(choices) if choices else None

    def dtype(self) -> Any:
        return self.one(DTYPES)

    def keywords(self, **options: tuple[float, Any]) -> dict[str, Any]:
        """keyword=(how likely it is given, its value, values or a function that draws one)."""
        found = {}
        for name, (p, value) in options.items():
            if self.chance(p):
                found[name] = value() if callable(value) else self.one(value) if isinstance(value, list) else value
        return found


Family = Callable[[Draw], Drawn]
