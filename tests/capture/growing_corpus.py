"""Loops that append to a list and stage: f(x, n), with as many nodes for any n."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def step(x: Any) -> Any:
    return np.tanh(x * 1.1 + 0.1)


STAGED: list[Callable[..., Any]] = []


def staged(f: Callable[..., Any]) -> Callable[..., Any]:
    STAGED.append(f)
    return f


def trajectory(x: Any, n: int) -> list[Any]:
    out = []
    for _ in range(n):
        x = step(x)
        out.append(x)
    return out


@staged
def stack(x, n):
    return np.stack(trajectory(x, n))


@staged
def stack_last_axis(x, n):
    return np.stack(trajectory(x, n), axis=-1)


@staged
def array(x, n):
    return np.array(trajectory(x, n))


@staged
def array_of_a_dtype(x, n):
    return np.array(trajectory(x, n), dtype=np.float32)


@staged
def asarray(x, n):
    return np.asarray(trajectory(x, n))


@staged
def concatenate(x, n):
    return np.concatenate(trajectory(x, n))


@staged
def concatenate_inner_axis(x, n):
    return np.concatenate([*trajectory(np.outer(x, x[:2]), n)], axis=1)


@staged
def vstack(x, n):
    return np.vstack(trajectory(x, n))


@staged
def hstack(x, n):
    return np.hstack(trajectory(x, n)), np.hstack(trajectory(x[0], n))


@staged
def column_stack(x, n):
    return np.column_stack(trajectory(x, n))


@staged
def sums(x, n):
    return sum(trajectory(x, n)), sum(trajectory(x, n), x)


@staged
def mean(x, n):
    return np.mean(trajectory(x, n), axis=0)


@staged
def items(x, n):
    out = trajectory(x, n)
    return out[-1], out[2], len(out), out[-2] + out[0]


@staged
def parts(x, n):
    out = trajectory(x, n)
    return np.stack(out[1:]), np.stack(out[::-1]), np.stack(out[::2])


@staged
def first_before(x, n):
    out = [x]
    for _ in range(n):
        x = step(x)
        out.append(x)
    return np.stack(out), np.array(out)


@staged
def before_the_step(x, n):
    out = []
    for _ in range(n):
        out.append(x)
        x = step(x)
    return np.stack(out), x


@staged
def numbers(x, n):
    losses = []
    for _ in range(n):
        x = step(x)
        losses.append(np.sum(x * x))
    return np.array(losses), losses[-1]


@staged
def python_floats(x, n):
    losses = []
    for _ in range(n):
        x = step(x)
        losses.append(float(np.sum(x * x)))
    return np.array(losses)


@staged
def two_lists(x, n):
    xs, vs = [], []
    v = np.zeros_like(x)
    for t in range(n):
        v = 0.9 * v - 0.1 * x
        x = x + v * t
        xs.append(x)
        vs.append(v[:2])
    return np.stack(xs), np.stack(vs), x, v


@staged
def twice_a_turn(x, n):
    out = []
    for _ in range(n):
        out.append(x)
        x = step(x)
        out.append(x * 2)
    return np.stack(out), out[1], out[-1]


@staged
def inner_short_loop(x, n):
    out = []
    for _ in range(n):
        for k in range(3):
            x = step(x)
            out.append(x * k)
    return np.stack(out)


@staged
def pairs(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out.append((x, x[0] * 2))
    return out[3], out[-1]


@staged
def iteration_ahead(x, n):
    out = []
    y = None
    for _ in range(n):
        y = x * 2 if y is None else y + x
        out.append(y)
    return np.stack(out)


@staged
def one_list_of_two_loops(x, n):
    out = trajectory(x, n)
    for _ in range(n):
        x = x - step(x)
        out.append(x)
    return np.stack(out)


@staged
def backwards(x, n):
    out = []
    for t in range(n - 1, -1, -1):
        x = x * 0.9 + t
        out.append(x)
    out.reverse()
    return np.array(out)


@staged
def steps_of_two(x, n):
    out = []
    for t in range(3, 3 + 2 * n, 2):
        x = step(x) + t
        out.append(x)
    return np.array(out)


@staged
def copies(x, n):
    x = x.copy()
    out = []
    for _ in range(n):
        x *= 0.9
        out.append(x.copy())
    return np.stack(out), x


@staged
def written_before_the_turn_ends(x, n):
    out = []
    for _ in range(n):
        y = step(x)
        out.append(y)
        y *= 2
        x = x + 0.1
    return np.stack(out)


@staged
def two_names(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out.append(x)
    also = out
    also.append(x * 2)
    return np.stack(out), len(also)


@staged
def the_last_is_written(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out.append(x)
    x *= 2
    out[0] += 1
    return np.stack(out), x


@staged
def the_last_but_one_is_written(x, n):
    out = []
    old = x
    for _ in range(n):
        old = x
        x = step(x)
        out.append(x)
    old += 3
    out[-1][0] = 7
    return np.stack(out), x, old


@staged
def one_array_in_two_lists(x, n):
    a, b = [], []
    for _ in range(n):
        x = step(x)
        a.append(x)
        b.append(x)
    a[2] += 1
    return np.stack(a), np.stack(b)


@staged
def numbers_are_bound_anew(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out.append(x.sum())
    y = out[-1]
    y += 1
    z = out[2]
    for k in range(n):
        z += x[0] * k
    return np.stack(out), y, z


@staged
def a_list_of_the_turn(x, n):
    out = []
    for _ in range(n):
        row = []
        for k in range(7):
            row.append(x[0] * k)
        x = x + np.stack(row)[:5]
        out.append(x)
    return np.stack(out)


@staged
def known_condition(x, n, keep=True):
    out = []
    for _ in range(n):
        x = step(x)
        if keep:
            out.append(x)
    return np.stack(out)


@staged
def numbers_of_the_turn(x, n):
    at, times, words = [], [], []
    for t in range(3, n + 3):
        x = step(x)
        at.append(2 * t - 1)
        times.append((t * 0.5, 7, 2.5))
        words.append(0.5)
    return np.array(at), at[2], range(at[1])[-1], np.array([q for q, _, _ in times]), words[-1], times[1][1:], x


@staged
def augmented(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out += [x, x * 2]
    return np.stack(out), len(out)


@staged
def extended(x, n):
    out = [x * 3]
    for _ in range(n):
        x = step(x)
        out.extend([x, x * 2])
        out.extend(x * k for k in range(2))
    return np.stack(out), out[0], out[-1]


@staged
def inserted_in_front(x, n):
    out, back = [x], []
    for t in range(n):
        x = step(x)
        out.insert(0, x)
        out.append(x + 1)
        back.insert(0, t)
    return np.stack(out), back[:3]
