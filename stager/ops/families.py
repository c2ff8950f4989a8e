"""Family helpers: an op states only what its family cannot derive.

Rule signatures, the same for every op (raw values in and out; `None` is a symbolic zero):

    jvp(primals, tangents, **params) -> (out, tangent)
    vjp(ct, out, args, needs, **params) -> one cotangent (or None) per operand
    batch(interp, args, bdims, **params) -> (out, bdim)

Ops with several results use tuples for `out`, `tangent`, `ct` and `bdim`. An op without `jvp` and `vjp` has
derivative zero everywhere (comparisons, integer ops).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stager.errors import DTypeError, ShapeError, describe
from stager.interpreters.stack import bind, nearest_stage
from stager.ir.dims import Dim
from stager.ir.dtypes import DType, b1
from stager.ir.op import Op, register
from stager.ir.types import Type

Raw = Any
Derivative = Callable[..., Any] | None


class OpFunction:
    """An op as rules call it: `sin(x)`, `transpose(x, perm=(1, 0))`. `op` is its record."""

    __slots__ = ("op", "prepare")

    def __init__(self, op: Op, prepare: Callable[..., Any] | None = None) -> None:
        self.op = op
        self.prepare = prepare

    def __call__(self, *args: Any, **params: Any) -> Any:
        if self.prepare is not None:
            args = self.prepare(args)
        return bind(self.op, *args, **params)

    def __repr__(self) -> str:
        return f"<op {self.op.name}>"


# -- constants at level 0 ---------------------------------------------------------------------------------------------


def full(shape: tuple[Dim, ...], value: Any, dtype: DType) -> Raw:
    """A literal filling `shape`: a constant to every level."""
    return nearest_stage().scalar(value, dtype, tuple(shape))


def full_like(x: Raw, value: Any) -> Raw:
    """A literal of x's type."""
    t = x.type
    return full(t.shape, value, t.dtype)


def zeros_like(x: Raw) -> Raw:
    """Zeros of x's type."""
    return full_like(x, 0)


def zeros_of(t: Type) -> Raw:
    """Zeros of a type."""
    return full(t.shape, 0, t.dtype)


def _lift_scalars(args: Sequence[Any]) -> Sequence[Any]:
    """Python scalars among elementwise operands become literals like the last non-scalar operand."""
    like = None
    scalars = False
    for a in args:
        if type(a) in (float, int, bool):
            scalars = True
        else:
            like = a
    if not scalars or like is None:
        return args
    return [full_like(like, a) if type(a) in (float, int, bool) else a for a in args]


# -- elementwise ------------------------------------------------------------------------------------------------------


def same_shape(name: str, types: Sequence[Type]) -> None:
    """ShapeError unless all operands have one shape (broadcasting has happened before)."""
    shape = types[0].shape
    for t in types[1:]:
        if t.shape != shape:
            raise ShapeError(describe(f"{name}: operands have shapes {' and '.join(map(str, types))}"))


def elementwise(
    name: str,
    reference: Callable[..., Any],
    *,
    lower: Callable[..., Any],
    d: Sequence[Derivative] | None = None,
    result: DType | Callable[..., DType] | None = None,
    mixed: bool = False,
    commutative: bool = False,
    kinds: str | None = None,
    facts: tuple[str, ...] = (),
    batch: Callable[..., Any] | None = None,
    modes: tuple[str, ...] = ("forward", "reverse"),
    version: str = "",
) -> OpFunction:
    """One scalar function of its operands.

    d: per operand, `(t, out, *operands, **params) -> t times the partial derivative`, or None for zero. It is linear
    in t and diagonal, so it serves both modes. result: the result dtype when it is not the operands'.
    mixed: operands may differ in dtype. kinds: the dtype kinds that operands may have ("f", "iu", "biu", ...).
    batch: in place of doing the same for all lanes. modes: the AD modes that see `d`. version: see `Op`.
    """

    def type_rule(*types: Type, **params: Any) -> Type:
        first = types[0]
        if len(types) > 1:
            same_shape(name, types)
            if not mixed and any(t.dtype is not first.dtype for t in types):
                raise DTypeError(describe(f"{name}: operands have dtypes {', '.join(str(t.dtype) for t in types)}"))
        if kinds is not None and first.dtype.kind not in kinds:
            raise DTypeError(describe(f"{name} does not take {first.dtype} operands"))
        if result is None:
            return first if len(types) == 1 else Type(first.dtype, first.shape)
        dtype = result if isinstance(result, DType) else result(*[t.dtype for t in types], **params)
        return Type(dtype, first.shape)

    def batch_alike(interp: Any, args: Sequence[Raw], bdims: Sequence[int | None], **params: Any) -> Any:
        args, bdim = align_batch(interp, args, bdims)
        return bind(op, *args, **params), bdim

    def jvp(primals: Sequence[Raw], tangents: Sequence[Raw], **params: Any) -> Any:
        out = bind(op, *primals, **params)
        return out, _total(zip(d or (), tangents, strict=True), out, primals, params)

    def vjp(ct: Raw, out: Raw, args: Sequence[Raw], needs: Sequence[bool], **params: Any) -> list[Raw]:
        return [
            rule(ct, out, *args, **params) if need and rule is not None else None
            for rule, need in zip(d or (), needs, strict=True)
        ]

    differentiable = d is not None and any(rule is not None for rule in d)
    op = register(
        Op(
            name,
            "elementwise",
            type_rule,
            reference,
            lower=lower,
            jvp=jvp if differentiable and "forward" in modes else None,
            vjp=vjp if differentiable and "reverse" in modes else None,
            batch=batch_alike if batch is None else batch,
            commutative=commutative,
            facts=facts,
            version=version,
        )
    )
    return OpFunction(op, _lift_scalars)


def _total(rules: Any, out: Raw, primals: Sequence[Raw], params: dict[str, Any]) -> Raw:
    from stager.ops.elementwise import add

    total = None
    for rule, t in rules:
        if t is None or rule is None:
            continue
        term = rule(t, out, *primals, **params)
        if term is not None:
            total = term if total is None else add(total, term)
    return total


def comparison(name: str, reference: Callable[..., Any], lower: Callable[..., Any], **kw: Any) -> OpFunction:
    """Two operands of one dtype to bool."""
    return elementwise(name, reference, lower=lower, result=b1, **kw)


# -- batching helpers -------------------------------------------------------------------------------------------------


def move_bdim(x: Raw, bdim: int | None, to: int = 0) -> Raw:
    """Move the batch axis of a raw value."""
    if bdim is None or bdim == to:
        return x
    from stager.ops.views import transpose

    order = [i for i in range(len(x.type.shape)) if i != bdim]
    order.insert(to, bdim)
    return transpose(x, perm=tuple(order))


def materialize_batch(interp: Any, x: Raw, bdim: int | None, to: int = 0) -> Raw:
    """The value with its batch at axis `to`; one that has none is broadcast."""
    if bdim is not None:
        return move_bdim(x, bdim, to)
    from stager.ops.views import broadcast

    shape = x.type.shape if hasattr(x, "type") else ()
    axes = tuple([i if i < to else i + 1 for i in range(len(shape))])
    return broadcast(x, shape=(*shape[:to], interp.batch_size, *shape[to:]), axes=axes)


def align_batch(interp: Any, args: Sequence[Raw], bdims: Sequence[int | None]) -> tuple[Sequence[Raw], int]:
    """All operands with the batch at one axis, the one most of them have already."""
    present = [b for b in bdims if b is not None]
    to = present[0]
    if len(present) == len(args) and all(b == to for b in present):
        return args, to
    return [materialize_batch(interp, a, b, to) for a, b in zip(args, bdims, strict=True)], to


def batch_all_front(interp: Any, args: Sequence[Raw], bdims: Sequence[int | None]) -> list[Raw]:
    """All operands with the batch at axis 0, broadcast where they have none."""
    return [materialize_batch(interp, a, b, 0) for a, b in zip(args, bdims, strict=True)]


# -- linear, bilinear, structural -------------------------------------------------------------------------------------


def define(
    name: str,
    family: str,
    *,
    type_rule: Callable[..., Any],
    reference: Callable[..., Any],
    batch: Callable[..., Any],
    jvp: Callable[..., Any] | None = None,
    vjp: Callable[..., Any] | None = None,
    **fields: Any,
) -> OpFunction:
    """An op that states all its rules."""
    return OpFunction(register(Op(name, family, type_rule, reference, jvp=jvp, vjp=vjp, batch=batch, **fields)))


def linear(
    name: str,
    family: str,
    *,
    type_rule: Callable[..., Any],
    reference: Callable[..., Any],
    transpose: Callable[..., Sequence[Any]],
    batch: Callable[..., Any],
    operands: int | None = None,
    **fields: Any,
) -> OpFunction:
    """An op linear in its first `operands` operands jointly (None: all); the rest (indices) carry no derivative.

    transpose(ct, args, needs, **params) -> cotangents of the linear operands. The jvp applies the op to tangents.
    """

    def jvp(primals: Sequence[Raw], tangents: Sequence[Raw], **params: Any) -> Any:
        out = bind(op, *primals, **params)
        n = len(primals) if operands is None else operands
        if all(t is None for t in tangents[:n]):
            return out, None
        filled = [zeros_like(p) if t is None else t for p, t in zip(primals[:n], tangents[:n], strict=True)]
        return out, bind(op, *filled, *primals[n:], **params)

    def vjp(ct: Raw, out: Raw, args: Sequence[Raw], needs: Sequence[bool], **params: Any) -> list[Raw]:
        cts = list(transpose(ct, args, needs, **params))
        return cts + [None] * (len(args) - len(cts))

    op = register(Op(name, family, type_rule, reference, jvp=jvp, vjp=vjp, transpose=transpose, batch=batch, **fields))
    return OpFunction(op)


def view(
    name: str,
    *,
    type_rule: Callable[..., Type],
    reference: Callable[..., Any],
    transpose: Callable[..., Any],
    batch: Callable[..., Any],
    write_back: Callable[..., Any] | None,
) -> OpFunction:
    """A view op: linear in its one operand, results at affine positions of it.

    transpose(ct, x, **params) -> cotangent of x. write_back(base, update, **params) -> base with the viewed elements
    replaced: how an update through the view reaches its base; None when a view cannot be written through (broadcast).
    """

    def transpose_rule(ct: Raw, args: Sequence[Raw], needs: Sequence[bool], **params: Any) -> list[Raw]:
        return [transpose(ct, args[0], **params)]

    return linear(
        name,
        "view",
        type_rule=type_rule,
        reference=reference,
        transpose=transpose_rule,
        batch=batch,
        write_back=write_back,
    )


def linear_batch(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A batching rule for one-operand ops: rule(x with batch at 0, interp, **params) -> out with batch at 0."""

    def batch(interp: Any, args: Sequence[Raw], bdims: Sequence[int | None], **params: Any) -> Any:
        return rule(move_bdim(args[0], bdims[0]), interp, **params), 0

    return batch
