"""Sample inputs of the control ops: loops, branches and lanes of every shape that their rules treat differently."""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.ir.dtypes import i64
from stager.ops import control, elementwise, views
from stager.ops.collect import collect
from stager.ops.families import full
from stager.ops.indexed import gather, scatter
from stager.ops.reductions import reduce_sum
from stager.ops.regions import dim_of
from tests.sampling import Sample, call, row, values

PROMISE: dict[str, Any] = {"axes": (0,), "batch_dims": 0, "mode": "promise"}
MATMUL: dict[str, Any] = {"contract": ((1,), (0,)), "batch": ((), ())}


def _at(x: Any, i: Any) -> Any:
    return gather(x, i, **PROMISE)


def _put(x: Any, v: Any, i: Any) -> Any:
    return scatter(x, v, i, combine="set", **PROMISE)


def _sum_of_prefix(x: Any, i: Any) -> Any:
    part = views.slice_(x, starts=(0,), sizes=(dim_of(i),), steps=(1,))
    return reduce_sum(elementwise.sin(part), axes=(0,))


def _triangular(x: Any) -> Any:
    """x[i] *= sum(sin(x[:i])): sizes that follow the loop's index."""
    return control.for_loop(1, 4, [x], lambda i, c: [_put(c, elementwise.mul(_sum_of_prefix(c, i), _at(c, i)), i)])


def _nested_sizes(x: Any) -> Any:
    """A loop over a prefix inside a loop: the inner tape has another size in every iteration."""

    def body(i: Any, c: Any) -> list[Any]:
        part = views.slice_(c, starts=(0,), sizes=(dim_of(i),), steps=(1,))
        part = control.for_loop(0, 2, [part], lambda j, d: [elementwise.sin(d)])[0]
        return [_put(c, elementwise.mul(reduce_sum(part, axes=(0,)), _at(c, i)), i)]

    return control.for_loop(1, 4, [x], body)


def _triangle_of_loops(x: Any) -> Any:
    return control.for_loop(
        0,
        3,
        [x],
        lambda i, c: control.for_loop(
            0, i, [c], lambda j, d: [elementwise.mul(d, elementwise.add(elementwise.sin(d), 1.0))]
        ),
    )


def _branch_in_loop(x: Any) -> Any:
    def body(i: Any, c: Any, s: Any) -> list[Any]:
        v = _at(x, i)
        (r,) = control.switch_case(
            elementwise.convert(elementwise.gt(v, 0.0), dtype=i64),
            [lambda: (elementwise.mul(s, v),), lambda: (elementwise.add(s, elementwise.mul(v, v)),)],
        )
        return [c, r]

    return control.for_loop(0, 4, [x, full((), 1, x.type.dtype)], body)


@row("for")
def _(rng: Any, dtype: Any) -> list[Sample]:
    e = elementwise
    v, s = values(rng, dtype, (4,), -0.9, 0.9), values(rng, dtype, (), 0.3, 0.7)
    dot = call("dot", **MATMUL)

    def numbered(i: Any, c: Any) -> list[Any]:
        k = views.broadcast(e.convert(i, dtype=c.type.dtype), shape=c.type.shape, axes=())
        return [e.mul(c, e.add(k, e.sin(c)))]

    def rows_in_place(i: Any, c: Any) -> list[Any]:
        return [_put(c, e.mul(e.sin(_at(c, e.sub(i, 1))), _at(c, i)), i)]

    return [
        Sample(lambda x: control.for_loop(0, 3, [x], lambda i, c: [e.mul(c, e.sin(c))]), (s,), text="x = x sin x"),
        Sample(lambda x: control.for_loop(0, 0, [x], lambda i, c: [e.mul(c, c)]), (s,), text="no iteration"),
        Sample(
            lambda x, y: control.for_loop(0, 3, [x], lambda i, c: [e.mul(c, e.sin(y))]),
            (s, np.asarray(s + 1)),
            text="captured",
        ),
        Sample(
            lambda x, y: control.for_loop(0, 3, [x, y], lambda i, c, d: [e.add(c, d), d]),
            (v, v * 2),
            text="two carries",
        ),
        Sample(lambda x: control.for_loop(3, -1, [x], numbered, step=-2), (v,), text="backward by 2"),
        Sample(
            lambda x: control.for_loop(
                0, 4, [full((), 0, x.type.dtype)], lambda i, c: [e.add(c, e.mul(_at(x, i), _at(x, i)))]
            ),
            (v,),
            text="sum of squares",
        ),
        Sample(lambda x: control.for_loop(1, 4, [x], rows_in_place), (v,), text="rows in place"),
        Sample(
            lambda A, x: control.for_loop(0, 3, [x], lambda i, c: [e.tanh(dot(A, c))]),
            (values(rng, dtype, (3, 3)), values(rng, dtype, (3,))),
            text="recurrent",
        ),
        Sample(
            lambda x, n: control.for_loop(0, n, [x], lambda i, c: [e.sin(c)]),
            (s, np.asarray(3)),
            text="bound from data",
        ),
        Sample(_triangle_of_loops, (s,), text="loop bounds from the outer index"),
        Sample(_triangular, (v,), text="sizes from the index"),
        Sample(_nested_sizes, (v,), text="tape sizes from the index"),
        Sample(_branch_in_loop, (v,), text="branch in a loop"),
    ]


@row("while")
def _(rng: Any, dtype: Any) -> list[Sample]:
    e = elementwise
    v, s = values(rng, dtype, (4,), 0.3, 0.9), values(rng, dtype, (), 0.3, 0.7)

    def counted(x: Any, n: Any) -> Any:
        return control.while_loop([full((), 0, i64), x], lambda i, c: e.lt(i, n), lambda i, c: [e.add(i, 1), e.sin(c)])

    return [
        Sample(
            lambda x: control.while_loop([x], lambda c: e.lt(c, 10.0), lambda c: [e.add(e.mul(c, c), 1.0)]),
            (s,),
            text="x = x x + 1",
        ),
        Sample(
            lambda x: control.while_loop(
                [x], lambda c: e.lt(reduce_sum(c, axes=(0,)), 10.0), lambda c: [e.add(e.mul(c, c), 1.0)]
            ),
            (v,),
            text="vector",
        ),
        Sample(counted, (v, np.asarray(3)), text="counted"),
        Sample(
            lambda x, y: control.while_loop([x], lambda c: e.lt(c, 5.0), lambda c: [e.add(e.mul(c, y), 1.0)]),
            (s, np.asarray(s + 1)),
            text="captured",
        ),
    ]


@row("collect")
def _(rng: Any, dtype: Any) -> list[Sample]:
    e = elementwise
    v, s = values(rng, dtype, (4,), 0.3, 0.9), values(rng, dtype, (), 0.3, 0.7)

    def flat(carries: Any, turns: Any, tapes: Any) -> Any:
        return (*carries, turns, *tapes)

    def below_ten(c: Any) -> Any:
        return e.lt(reduce_sum(c, axes=(0,)), 10.0)

    def last_row(x: Any) -> Any:
        """What the tape holds of the last turn."""
        (out,), turns, (tape,) = collect([x], below_ten, lambda c: [e.add(e.mul(c, c), 1.0), e.sin(c)])
        return e.mul(out, gather(tape, e.sub(turns, 1), **PROMISE))

    def sum_of_rows(x: Any, y: Any) -> Any:
        _, _, (tape,) = collect([x], lambda c: e.lt(c, 5.0), lambda c: [e.add(e.mul(c, y), 1.0), e.mul(c, y)])
        return reduce_sum(tape, axes=(0,))

    return [
        Sample(last_row, (v,), text="last row"),
        Sample(sum_of_rows, (s, np.asarray(s + 1)), text="sum of the rows"),
        Sample(
            lambda x: flat(*collect([x], lambda c: e.lt(c, 10.0), lambda c: [e.add(e.mul(c, c), 1.0)]))[:1],
            (s,),
            text="no rows",
        ),
        Sample(
            lambda x: flat(*collect([x], lambda c: e.lt(c, 0.0), lambda c: [e.mul(c, c), c]))[0], (s,), text="no turn"
        ),
    ]


@row("switch")
def _(rng: Any, dtype: Any) -> list[Sample]:
    e = elementwise
    v, s = values(rng, dtype, (4,), 0.3, 0.9), values(rng, dtype, (), 0.3, 0.7)
    dot = call("dot", contract=((0,), (0,)), batch=((), ()))

    def three(k: Any, x: Any, y: Any) -> Any:
        return control.switch_case(
            k,
            [
                lambda: (e.mul(x, e.sin(y)), x),
                lambda: (e.exp(x), y),
                lambda: (e.mul(x, dot(x, y)) if False else x, e.mul(y, y)),
            ],
        )

    def with_sum(x: Any, y: Any) -> Any:
        return control.switch_case(
            e.convert(e.gt(dot(x, y), 0.0), dtype=i64), [lambda: (dot(x, x),), lambda: (e.sin(dot(x, y)),)]
        )

    picks = [Sample(three, (np.asarray(k), v, v + 1), text=f"branch {k}") for k in (0, 1, 2, -3, 7)]
    return [
        *picks,
        Sample(with_sum, (v, v + 1), text="branch from data"),
        Sample(
            lambda x, y: control.switch_case(
                e.convert(e.gt(x, y), dtype=i64), [lambda: (e.mul(x, e.sin(y)),), lambda: (e.exp(e.mul(x, x)),)]
            ),
            (s, np.asarray(s + 1)),
            text="scalar",
        ),
    ]


@row("map")
def _(rng: Any, dtype: Any) -> list[Sample]:
    e = elementwise
    v, s = values(rng, dtype, (4,), 0.3, 0.9), values(rng, dtype, (), 0.3, 0.7)
    m = values(rng, dtype, (4, 3))
    return [
        Sample(lambda x: control.map_lanes(4, lambda k: (e.sin(_at(x, k)),)), (v,), text="own element"),
        Sample(
            lambda x, y: control.map_lanes(4, lambda k: (e.mul(e.sin(_at(x, k)), y), e.exp(y))),
            (v, s),
            text="shared operand",
        ),
        Sample(
            lambda x: control.map_lanes(4, lambda k: control.for_loop(0, k, [_at(x, k)], lambda i, c: [e.sin(c)])),
            (m,),
            text="loop per lane",
        ),
        Sample(lambda x: control.map_lanes(0, lambda k: (e.sin(_at(x, k)),)), (v,), text="no lane"),
    ]
