"""Reverse mode: `grad`, `value_and_grad`, `grad_and_value`, `vjp`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from stager import cells
from stager.array import Array, as_array, wrap
from stager.errors import TransformError, describe
from stager.interpreters.grad import GradInterpreter
from stager.interpreters.stack import active, push
from stager.ops.families import full_like, zeros_like
from stager.runtime.structure import flatten, unflatten
from stager.stand_ins import refuse_overlap
from stager.tracing import trace
from stager.transforms.calling import enter, plainly, result_value, run_traced, write_back
from stager.transforms.differentiation import Selected, scalar_output


class Recorded:
    """A function run under a Grad level: its results one level down, and the way back."""

    def __init__(self, name: str, f: Callable[..., Any], selected: Selected, has_aux: bool, scalar: bool) -> None:
        interp = self.interp = GradInterpreter()
        outer = selected.leaves
        raws = [x.raw() for x in outer]
        try:
            with push(interp):
                tracked = [interp.track(r) for r in raws]
                entered = [enter(interp, x, t) for x, t in zip(outer, tracked, strict=True)]
                out = selected.call(f, [e.inner for e in entered])
                aux = None
                if has_aux:
                    if not isinstance(out, tuple) or len(out) != 2:
                        raise TransformError(
                            describe(f"{name}: has_aux=True wants the function to return a pair (value, aux)")
                        )
                    out, aux = out
                results, self.structure = flatten(out)
                if scalar:
                    results = [scalar_output(name, results)]
                unwrapped = [interp.unwrap(result_value(name, x)) for x in results]
                aux_leaves, aux_structure = flatten(aux)
                lowered = [wrap_later(interp, x) for x in aux_leaves]
        except BaseException:
            cells.discard_overlays(interp)
            raise
        self.entered = entered
        self.inputs = raws
        self.slots = [t.slot for t in tracked]
        self.values = [v for v, _ in unwrapped]
        self.out_slots = [slot for _, slot in unwrapped]
        self.out = unflatten(self.structure, [wrap(v) for v in self.values])
        self.aux = unflatten(aux_structure, [wrap(x.value) if isinstance(x, _Lowered) else x for x in lowered])

    def end(self, back: Callable[[], list[Any]] = list) -> list[Any]:
        """`back()`, behind which what f has written reaches the level around: where it raises nothing does."""
        try:
            found = back()
        except BaseException:
            cells.discard_overlays(self.interp)
            raise
        cells.commit_overlays(self.interp)
        write_back(self.entered, self.interp.lower_value)
        return found

    def pull_back(self, cts: Sequence[Any]) -> list[Array]:
        """Cotangents of the inputs for raw cotangents of the results; the level around the record is in force."""
        seeds = [
            (slot, ct) for slot, ct in zip(self.out_slots, cts, strict=True) if slot is not None and ct is not None
        ]
        found = self.interp.backward(seeds, self.slots)
        return [wrap(zeros_like(x) if ct is None else ct) for x, ct in zip(self.inputs, found, strict=True)]


class _Lowered:
    def __init__(self, value: Any) -> None:
        self.value = value


def wrap_later(interp: Any, x: Any) -> Any:
    """An aux leaf lowered out of its level; static leaves stay."""
    return _Lowered(interp.lower_value(x.raw())) if type(x) is Array else x


def value_and_grad(f: Callable[..., Any], argnums: Any = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns f's value and its gradient.

    f returns a floating-point scalar (a pair with auxiliary results when has_aux). argnums: which arguments, as ints
    (negative from the end), names, or a tuple of those; each may be any nesting of floating-point arrays.
    Returns (value, gradient), or ((value, aux), gradient). TypeError for integer arguments or a non-scalar result.

    >>> import stager as st
    >>> st.value_and_grad(lambda x: x ** 2)(3.0)
    (np.float64(9.0), np.float64(6.0))
    """

    @functools.wraps(f)
    @plainly
    def differentiated(*args: Any, **kwargs: Any) -> Any:
        selected = Selected("grad", f, args, kwargs, argnums)
        record = Recorded("grad", f, selected, has_aux, scalar=True)
        grads = record.end(lambda: record.pull_back([full_like(record.values[0], 1)]))
        return ((record.out, record.aux) if has_aux else record.out), selected.result(grads)

    return differentiated


def grad_and_value(f: Callable[..., Any], argnums: Any = 0, has_aux: bool = False) -> Callable[..., Any]:
    """As `value_and_grad`, with torch.func's order: (gradient, value) or (gradient, (value, aux))."""
    both = value_and_grad(f, argnums, has_aux)

    @functools.wraps(f)
    def differentiated(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return gradient, value

    return differentiated


def grad(f: Callable[..., Any], argnums: Any = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns f's gradient; with has_aux, (gradient, aux). See `value_and_grad`.

    >>> import stager as st
    >>> float(st.grad(st.grad(lambda x: x ** 3))(2.0))
    12.0
    """
    both = value_and_grad(f, argnums, has_aux)

    @functools.wraps(f)
    def differentiated(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return differentiated


def vjp(f: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """(f(*primals), pull back), where the second maps cotangents of the results to a tuple of those of the primals.

    With has_aux f returns (value, aux) and so (value, pull back, aux) comes back. The pull-back may be called any
    number of times.

    >>> import numpy as np, stager as st
    >>> y, back = st.vjp(np.sin, 0.0)
    >>> float(back(2.0)[0])
    2.0
    """
    if active():
        return _vjp_traced(f, primals, has_aux)
    return _vjp_plain(f, primals, has_aux)


def _cotangents(record: Recorded, ct: Any) -> list[Any]:
    """The raw cotangents that a pull-back was called with, checked against the results."""
    leaves, structure = flatten(ct)
    if structure != record.structure:
        raise TransformError(describe(f"vjp: the cotangent has structure {structure}, the result {record.structure}"))
    out = []
    from stager.numpy.promotion import operand

    for x, v in zip(leaves, record.values, strict=True):
        c = operand(as_array(x), v.type.dtype)
        if c.type.shape != v.type.shape:
            raise TransformError(
                describe(f"vjp: a cotangent of shape {tuple(c.type.shape)} came for a result {v.type}")
            )
        out.append(c)
    return out


def _vjp_traced(f: Callable[..., Any], primals: tuple[Any, ...], has_aux: bool) -> Any:
    selected = Selected("vjp", f, primals, {}, tuple(range(len(primals))))
    record = Recorded("vjp", f, selected, has_aux, scalar=False)
    record.end()

    def pull_back(ct: Any) -> Any:
        return tuple(selected.trees(record.pull_back(_cotangents(record, ct))))

    return (record.out, pull_back, record.aux) if has_aux else (record.out, pull_back)


def _vjp_plain(f: Callable[..., Any], primals: tuple[Any, ...], has_aux: bool) -> Any:
    """Outside a trace: the forward runs now; its trace stays, so that pull-backs extend it and find residuals known."""
    kept: dict[str, Any] = {}

    def forward(*primals: Any) -> Any:
        selected = kept["selected"] = Selected("vjp", f, primals, {}, tuple(range(len(primals))))
        record = kept["record"] = Recorded("vjp", f, selected, has_aux, scalar=False)
        record.end()
        return record.out, record.aux

    traced = trace(forward, primals, {}, concrete=True)
    assert traced.stage is not None
    traced.stage.concrete.hold()
    refuse_overlap(traced)
    out, aux = run_traced(traced)
    selected, record, stage = kept["selected"], kept["record"], traced.stage
    assert stage is not None

    def pull_back(ct: Any) -> Any:
        from stager.transforms.calling import own
        from stager.transforms.later import inside_another_trace

        if active():
            pulled = inside_another_trace(
                stage, lambda cts: [x.raw() for x in record.pull_back(cts)], _cotangents(record, ct)
            )
            return tuple(selected.trees(pulled))
        with push(stage):
            cts = _cotangents(record, ct)
            found = [x.raw() for x in record.pull_back(cts)]
            arrays = stage.concrete.run(found)
        return tuple(selected.trees([own(a) for a in arrays]))

    return (out, pull_back, aux) if has_aux else (out, pull_back)
