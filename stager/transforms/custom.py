"""Derivatives and batching by the user's own rules: `custom_jvp`, `custom_vjp`, `custom_vmap`.

A call becomes one op whose region is the function itself. Levels that have a rule for it use it; level 0 runs the
region. Batching a call batches its rules too, so the rules survive `grad(vmap(f))`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stager import cells
from stager.array import Array, as_array, is_value, raw, wrap
from stager.binding import signature_of
from stager.errors import MutationError, TransformError, describe
from stager.interpreters.stack import bind, push, stack
from stager.ir.graph import Graph
from stager.ir.op import Op, register
from stager.ir.types import Type
from stager.numpy.promotion import operand
from stager.ops.families import materialize_batch, zeros_like
from stager.ops.regions import Captures, finish, replay, trace_region
from stager.runtime.structure import Structure, flatten, unflatten
from stager.transforms.calling import call_user, plainly


class Rules:
    """The user's rules on raw values: they see only the function's own operands, not what it captures."""

    def __init__(self, count: int, jvp: Callable[..., Any] | None, forward: Callable[..., Any] | None,
                 backward: Callable[..., Any] | None, batch: Callable[..., Any] | None) -> None:  # fmt: skip
        self.count = count
        self.jvp = jvp  # (primals, tangents) -> (outs, tangents)
        self.forward = forward  # primals -> (outs, residual raws)
        self.backward = backward  # (residual raws, cts) -> cts
        self.batch = batch  # (size, args, bdims) -> (outs, bdims)


def _types(*operands: Type, regions: tuple[Graph, ...], rules: Rules) -> tuple[Type, ...]:
    return tuple(regions[0].output_types)


def _reference(*operands: Any, **params: Any) -> Any:
    raise AssertionError("internal error in stager: a custom call reached level 0 as a node")


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, regions: tuple[Graph, ...], rules: Rules) -> Any:
    if rules.jvp is None:
        if rules.backward is not None:
            return _jvp_by_transpose(primals, tangents, regions, rules)
        from stager.interpreters.jvp import JvpInterpreter

        interp = JvpInterpreter()
        with push(interp):
            outs = replay(regions[0], [interp.wrap(p, t) for p, t in zip(primals, tangents, strict=True)])
        pairs = [interp.unwrap(o) for o in outs]
        return tuple([p for p, _ in pairs]), tuple([t for _, t in pairs])
    n = rules.count
    filled = [
        zeros_like(p) if t is None and p.type.dtype.is_inexact else t
        for p, t in zip(primals[:n], tangents[:n], strict=True)
    ]
    return rules.jvp(list(primals[:n]), filled)


def _jvp_by_transpose(primals: Sequence[Any], tangents: Sequence[Any], regions: tuple[Graph, ...], rules: Rules) -> Any:
    """Forward mode of a function with a vjp rule: the transpose of its pull-back, which is linear."""
    from stager.interpreters.grad import GradInterpreter
    from stager.ops import elementwise as op
    from stager.ops.reductions import reduce_sum

    n = rules.count
    outs, residuals = rules.forward(list(primals[:n]))  # type: ignore[misc]
    interp = GradInterpreter()
    with push(interp):  # the pull-back at cotangents u, paired with the tangents: d/du of <t, B(u)> is the tangent
        us = [interp.track(zeros_like(o)) if o.type.dtype.is_inexact else None for o in outs]
        cts = rules.backward(residuals, us)  # type: ignore[misc]
        total = None
        for t, ct in zip(tangents[:n], cts, strict=True):
            if t is not None and ct is not None:
                product = op.mul(t, ct)
                term = reduce_sum(product, axes=tuple(range(len(product.type.shape))))
                total = term if total is None else op.add(total, term)
        slot = None if total is None else interp.unwrap(total)[1]
    if slot is None:
        return tuple(outs), (None,) * len(outs)
    from stager.ops.families import full_like

    found = iter(
        interp.backward([(slot, full_like(interp.unwrap(total)[0], 1))], [u.slot for u in us if u is not None])
    )
    return tuple(outs), tuple([next(found) if u is not None else None for u in us])


def _pullback(args: Sequence[Any], needs: Sequence[bool], *, regions: tuple[Graph, ...], rules: Rules) -> Any:
    """(outs, cts of outs -> cts of operands)."""
    n = rules.count
    if rules.forward is not None and rules.backward is not None:
        outs, residuals = rules.forward(list(args[:n]))

        def back(cts: Sequence[Any]) -> list[Any]:
            filled = [
                zeros_like(o) if ct is None and o.type.dtype.is_inexact else ct for o, ct in zip(outs, cts, strict=True)
            ]
            assert rules.backward is not None
            return [*rules.backward(residuals, filled), *[None] * (len(args) - n)]

        return tuple(outs), back
    from stager.interpreters.grad import GradInterpreter

    if rules.jvp is not None:
        return _pullback_by_transpose(args, needs, rules)
    interp = GradInterpreter()
    with push(interp):
        tracked = [interp.track(a) if need else a for a, need in zip(args, needs, strict=True)]
        results = [interp.unwrap(r) for r in replay(regions[0], tracked)]

    def back_through(cts: Sequence[Any]) -> list[Any]:
        seeds = [(slot, ct) for (_, slot), ct in zip(results, cts, strict=True) if slot is not None and ct is not None]
        found = iter(interp.backward(seeds, [t.slot for t, need in zip(tracked, needs, strict=True) if need]))
        return [next(found) if need else None for need in needs]

    return tuple([v for v, _ in results]), back_through


def _pullback_by_transpose(args: Sequence[Any], needs: Sequence[bool], rules: Rules) -> Any:
    """Reverse mode of a function with a jvp rule: the transpose of the tangent map, recorded at zero tangents."""
    from stager.interpreters.grad import GradInterpreter

    n = rules.count
    interp = GradInterpreter()
    with push(interp):
        ts: list[Any] = [interp.track(zeros_like(a)) if need else (zeros_like(a) if a.type.dtype.is_inexact else None)
              for a, need in zip(args[:n], needs[:n], strict=True)]  # fmt: skip
        outs, moved = rules.jvp(list(args[:n]), ts)  # type: ignore[misc]
        slots = [None if t is None else interp.unwrap(t)[1] for t in moved]
        values = [interp.unwrap(o)[0] for o in outs]

    def back(cts: Sequence[Any]) -> list[Any]:
        seeds = [(slot, ct) for slot, ct in zip(slots, cts, strict=True) if slot is not None and ct is not None]
        found = iter(interp.backward(seeds, [t.slot for t, need in zip(ts, needs[:n], strict=True) if need]))
        return [next(found) if need else None for need in needs[:n]] + [None] * (len(args) - n)

    return tuple(values), back


def _batch(interp: Any, args: Sequence[Any], bdims: Sequence[Any], *, regions: tuple[Graph, ...], rules: Rules) -> Any:
    n = rules.count
    if rules.batch is not None:
        return rules.batch(interp.batch_size, list(args[:n]), list(bdims[:n]))
    # everything mapped at axis 0: the batched call is a call on batched types, its rules mapped alike
    front = [materialize_batch(interp, a, d, 0) for a, d in zip(args, bdims, strict=True)]

    def mapped(fn: Callable[..., Sequence[Any]]) -> Callable[..., list[Any]]:
        def run(*raws: Any) -> list[Any]:
            inner = interp.again()
            with push(inner):
                outs = fn(*[None if r is None else inner.wrap(r, 0) for r in raws])
                pairs = [(None, None) if o is None else inner.unwrap(o) for o in outs]
            return [None if v is None else materialize_batch(inner, v, d, 0) for v, d in pairs]

        return run

    captures = Captures()
    region = trace_region(mapped(lambda *raws: replay(regions[0], raws)), [a.type for a in front], captures, "batched")
    batched, captured = finish([region], len(front))
    outs = bind(custom_op, *front, *captured, regions=batched, rules=_mapped_rules(rules, mapped))
    return outs, (0,) * len(outs)


def _mapped_rules(rules: Rules, mapped: Callable[..., Any]) -> Rules:
    def jvp(primals: list[Any], tangents: list[Any]) -> Any:
        k = len(primals)

        def both(*raws: Any) -> list[Any]:
            assert rules.jvp is not None
            outs, moved = rules.jvp(list(raws[:k]), list(raws[k:]))
            return [*outs, *moved]

        joined = mapped(both)(*primals, *tangents)
        half = len(joined) // 2
        return tuple(joined[:half]), tuple(joined[half:])

    counts: dict[str, int] = {}

    def forward(primals: list[Any]) -> Any:
        def both(*raws: Any) -> list[Any]:
            assert rules.forward is not None
            outs, residuals = rules.forward(list(raws))
            counts["outs"] = len(outs)
            return [*outs, *residuals]

        joined = mapped(both)(*primals)
        return joined[: counts["outs"]], joined[counts["outs"] :]

    def backward(residuals: list[Any], cts: list[Any]) -> list[Any]:
        k = len(residuals)

        def run(*raws: Any) -> list[Any]:
            assert rules.backward is not None
            return list(rules.backward(list(raws[:k]), list(raws[k:])))

        out: list[Any] = mapped(run)(*residuals, *cts)
        return out

    return Rules(
        rules.count,
        jvp if rules.jvp else None,
        forward if rules.forward else None,
        backward if rules.backward else None,
        None,
    )


custom_op = register(Op("custom_call", "control", _types, _reference, jvp=_jvp, pullback=_pullback, batch=_batch,
                        multiple_results=True,
                        facts=("inline",)))  # fmt: skip


class _Custom:
    """A function with rules of the user's. Callable; the decorators' methods define the rules."""

    def __init__(self, f: Callable[..., Any]) -> None:
        functools.update_wrapper(self, f)
        self.f = f
        self.name = getattr(f, "__name__", type(f).__name__)
        self.jvp_rule: Callable[..., Any] | None = None
        self.forward_rule: Callable[..., Any] | None = None
        self.backward_rule: Callable[..., Any] | None = None
        self.batch_rule: Callable[..., Any] | None = None
        self._plain = plainly(self._traced)

    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """rule(primals, tangents) -> (output, output tangent); both tuples with one item per argument."""
        self.jvp_rule = rule
        return rule

    def defvjp(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        """forward(*args) -> (output, residuals); backward(residuals, ct) -> one cotangent (or None) per argument."""
        self.forward_rule, self.backward_rule = forward, backward

    def defvmap(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """rule(size, in_batched, *args) -> (output, out_batched): args that are batched have the batch at axis 0."""
        self.batch_rule = rule
        return rule

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._plain(*args, **kwargs)

    def _traced(self, *args: Any, **kwargs: Any) -> Any:
        args = self._positional(args, kwargs)
        leaves, structure = flatten(args)
        leaves = [as_array(x) if type(x) is float or isinstance(x, np.ndarray | np.generic) else x for x in leaves]
        traced = [isinstance(x, Array) for x in leaves]
        call = _Call(self, leaves, traced, structure)
        own = [x for x in leaves if isinstance(x, Array)]
        captures = Captures()
        region = trace_region(call.run, [x.type for x in own], captures, self.name)
        regions, captured = finish([region], len(own))
        rules = Rules(
            len(own),
            call.jvp if self.jvp_rule else None,
            call.forward if self.forward_rule else None,
            call.backward if self.backward_rule else None,
            call.batch if self.batch_rule else None,
        )
        outs = bind(custom_op, *[x.raw() for x in own], *captured, regions=regions, rules=rules)
        assert call.out is not None
        return unflatten(call.out, [wrap(o) for o in outs])


    def _positional(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments as the rules get them: by position, defaults filled in."""
        signature = signature_of(self.f)
        bound = signature.bind(*args, **kwargs)
        given = [q.name for q in signature.parameters.values()
                 if q.kind in (q.KEYWORD_ONLY, q.VAR_KEYWORD) and q.name in bound.arguments]  # fmt: skip
        if given:
            text = f"{self.name}: rules take arguments by position, and {given[0]!r} is given by keyword only"
            raise TransformError(describe(text, remedy="let the function take it by position"))
        bound.apply_defaults()
        return bound.args


class _Call:
    """One call of a custom function: its rules between the user's nestings and raw values."""

    def __init__(self, custom: _Custom, leaves: list[Any], traced: list[bool], structure: Structure) -> None:
        self.custom, self.leaves, self.traced, self.structure = custom, leaves, traced, structure
        self.out: Structure | None = None
        self.types: list[Type] = []  # of the results, for the rules to return the same
        self.arguments: list[Type] = []  # of the traced ones
        self.residuals: Structure | None = None
        self.static: list[Any] = []

    def _arguments(self, raws: Sequence[Any], missing: Any = None) -> tuple[Any, ...]:
        given = iter(raws)
        out: tuple[Any, ...] = unflatten(
            self.structure,
            [
                _handle(next(given)) if t else (x if missing is None else missing[0])
                for x, t in zip(self.leaves, self.traced, strict=True)
            ],
        )
        return out

    def _outputs(self, out: Any) -> list[Any]:
        leaves, self.out = flatten(out)
        return [raw(as_array(x)) for x in leaves]

    def _nested(self, rule: str, out: Any) -> list[Any]:
        """What a rule returned for the function's results, leaf by leaf."""
        leaves, structure = flatten(out)
        if structure != self.out:
            text = f"{self.custom.name}: {rule} returned {structure}, the function returns {self.out}"
            raise TransformError(describe(text))
        return leaves

    def _results(self, rule: str, out: Any) -> list[Any]:
        pairs = zip(self._nested(rule, out), self.types, strict=True)
        return [self._typed(f"{rule} returned", x, t) for x, t in pairs]

    def _typed(self, what: str, x: Any, t: Type) -> Any:
        """A value that a rule returned, of the type that it must have; its dtype follows."""
        value = operand(x if is_value(x) else as_array(x), t.dtype)
        if value.type.shape != t.shape:
            raise TransformError(describe(f"{self.custom.name}: {what} {value.type} for {t}"))
        return value

    def run(self, *raws: Any) -> list[Any]:
        arguments = self._arguments(raws)
        outputs = self._outputs(call_user(self.custom.f, arguments))
        self.types = [x.type for x in outputs]
        self.arguments = [r.type for r in raws]
        s = stack()
        written = [x for x in flatten(arguments)[0] if isinstance(x, Array) and x.cell.written]
        if cells.take_writes(s.levels[s.depth - 1]) or written:
            text = (
                "a function with rules of its own writes into an argument or a captured array, which its rules cannot"
            )
            raise MutationError(describe(text, remedy="write into a copy, and return it"))
        return outputs

    def jvp(self, primals: list[Any], tangents: list[Any]) -> Any:
        assert self.custom.jvp_rule is not None
        pair = call_user(
            self.custom.jvp_rule, (self._arguments(primals), self._arguments(tangents, missing=(None,)))
        )
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TransformError(describe("custom_jvp: the rule must return a pair (output, output tangent)"))
        outs = self._results("the jvp rule", pair[0])
        leaves, structure = flatten(pair[1])
        if len(leaves) != len(outs):
            raise TransformError(describe(f"custom_jvp: the rule returned tangents {structure} for outputs {self.out}"))
        tangents = [
            self._typed("the jvp rule returned a tangent", x, o.type) if o.type.dtype.is_inexact else None
            for x, o in zip(leaves, outs, strict=True)
        ]
        return tuple(outs), tuple(tangents)

    def forward(self, primals: list[Any]) -> Any:
        assert self.custom.forward_rule is not None
        pair = call_user(self.custom.forward_rule, self._arguments(primals))
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TransformError(describe("custom_vjp: the forward rule must return a pair (output, residuals)"))
        outs = self._results("the forward rule", pair[0])
        leaves, self.residuals = flatten(pair[1])
        self.static = [None if isinstance(x, Array) else x for x in leaves]
        return outs, [x.raw() for x in leaves if isinstance(x, Array)]

    def backward(self, residuals: list[Any], cts: list[Any]) -> list[Any]:
        assert self.custom.backward_rule is not None
        assert self.residuals is not None
        assert self.out is not None
        given = iter(residuals)
        kept = unflatten(self.residuals, [wrap(next(given)) if x is None else x for x in self.static])
        ct = unflatten(self.out, [_handle(c) for c in cts])
        found = call_user(self.custom.backward_rule, (kept, ct))
        items = found if isinstance(found, tuple) else (found,)
        if len(items) != len(self.structure.children):
            raise TransformError(
                describe(
                    f"custom_vjp: the backward rule must return one cotangent per argument "
                    f"({len(self.structure.children)}), it returned {len(items)}"
                )
            )
        out: list[Any] = []
        for item, s in zip(items, self.structure.children, strict=True):
            leaves = [None] * s.leaves if item is None else flatten(item)[0]
            if len(leaves) != s.leaves:
                nested = flatten(item)[1]
                text = f"custom_vjp: the backward rule returned a cotangent {nested} for an argument {s}"
                raise TransformError(describe(text, remedy="an argument without derivative has the cotangent None"))
            out.extend(leaves)
        types = iter(self.arguments)
        found = [(x, next(types)) for x, t in zip(out, self.traced, strict=True) if t]
        what = "the backward rule returned a cotangent"
        return [None if x is None or not t.dtype.is_inexact else self._typed(what, x, t) for x, t in found]

    def batch(self, size: Any, args: list[Any], bdims: list[Any]) -> Any:
        from stager.ops.families import move_bdim

        assert self.custom.batch_rule is not None
        given = iter([(_handle(move_bdim(a, d)), d is not None) for a, d in zip(args, bdims, strict=True)])
        pairs = [next(given) if t else (x, False) for x, t in zip(self.leaves, self.traced, strict=True)]
        arguments = unflatten(self.structure, [p for p, _ in pairs])
        batched = unflatten(self.structure, [b for _, b in pairs])
        out, out_batched = call_user(self.custom.batch_rule, (size, batched, *arguments))
        leaves = self._nested("the vmap rule", out)
        flags = flatten(out_batched)[0]
        flags = flags * len(leaves) if len(flags) == 1 else flags
        if len(flags) != len(leaves):
            text = f"{self.custom.name}: the vmap rule says of {len(flags)} results whether they are batched, "
            raise TransformError(describe(f"{text}it returned {len(leaves)}"))
        types = [Type(t.dtype, (size, *t.shape)) if b else t for t, b in zip(self.types, flags, strict=True)]
        outs = [self._typed("the vmap rule returned", x, t) for x, t in zip(leaves, types, strict=True)]
        return tuple(outs), tuple([0 if b else None for b in flags])


def _handle(r: Any) -> Any:
    return None if r is None else wrap(r)


def custom_jvp(f: Callable[..., Any]) -> Any:
    """f with a forward-mode rule of its own (`defjvp`); reverse mode is its transpose.

    >>> import numpy as np, stager as st
    >>> @st.custom_jvp
    ... def f(x):
    ...     return np.abs(x)
    >>> @f.defjvp
    ... def rule(primals, tangents):
    ...     return f(*primals), tangents[0] * 7
    >>> float(st.grad(f)(2.0))
    7.0
    """
    return _Custom(f)


def custom_vjp(f: Callable[..., Any]) -> Any:
    """f with a reverse-mode rule of its own (`defvjp`); forward mode is its transpose.

    >>> import numpy as np, stager as st
    >>> @st.custom_vjp
    ... def f(x):
    ...     return np.sin(x)
    >>> f.defvjp(lambda x: (np.sin(x), x), lambda x, ct: (ct * 5,))
    >>> float(st.grad(f)(0.0))
    5.0
    """
    return _Custom(f)


def custom_vmap(f: Callable[..., Any]) -> Any:
    """f with a batching rule of its own (`defvmap`).

    >>> import numpy as np, stager as st
    >>> @st.custom_vmap
    ... def f(x):
    ...     return x * 2
    >>> @f.defvmap
    ... def rule(size, batched, x):
    ...     return x * 3, batched[0]
    >>> st.vmap(f)(np.ones(2))
    array([3., 3.])
    """
    return _Custom(f)
