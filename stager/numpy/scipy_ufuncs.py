"""Ufuncs of scipy.special on traced arrays: erf, the gamma family, and what composes from NumPy's own.

stager does not need SciPy and never imports it: a ufunc is recognised by being the one that the loaded `scipy.special`
holds under its name. Accuracy is that of the ops, not of SciPy's loops.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from stager.ops import elementwise as op
from stager.ops.families import full_like

Rule = Callable[..., Any]


def _expit(x: Any) -> Any:
    """1 / (1 + e^-x), with the exponential of -|x| so that it neither overflows nor cancels."""
    e = op.exp(op.neg(op.abs_(x)))
    return op.div(op.select(op.lt(x, full_like(x, 0)), e, full_like(x, 1)), op.add(e, full_like(x, 1)))


def _xlogy(x: Any, y: Any) -> Any:
    """x log y, and 0 where x is 0 and y no NaN. Its derivative by x is log y there too, where that is a number."""
    zero = full_like(x, 0)
    finite = op.and_(op.gt(y, zero), op.lt(y, full_like(y, math.inf)))
    nothing = op.and_(op.and_(op.eq(x, zero), op.eq(y, y)), op.not_(finite))
    return op.add(op.mul(x, op.log(op.select(nothing, full_like(y, 1), y))), zero)


def _ndtr(x: Any) -> Any:
    """The normal distribution: half of erfc(-x / √2)."""
    return op.mul(op.erfc(op.mul(x, full_like(x, -math.sqrt(0.5)))), full_like(x, 0.5))


RULES: dict[str, Rule] = {
    "erf": op.erf,
    "erfc": op.erfc,
    "erfinv": op.erfinv,
    "gamma": op.gamma,
    "gammaln": op.lgamma,
    "psi": op.digamma,
    "digamma": op.digamma,
    "exp2": op.exp2,
    "expm1": op.expm1,
    "log1p": op.log1p,
    "expit": _expit,
    "logit": lambda x: op.sub(op.log(x), op.log1p(op.neg(x))),
    "xlogy": _xlogy,
    "ndtr": _ndtr,
}


def scipy_rule(ufunc: np.ufunc) -> Rule | None:
    """How a ufunc of the loaded scipy.special is computed from ops; None for any other ufunc."""
    special = sys.modules.get("scipy.special")
    name = ufunc.__name__
    return RULES.get(name) if special is not None and getattr(special, name, None) is ufunc else None
