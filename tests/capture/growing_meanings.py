"""Loops that append to a list and use it or what they appended: staged or not, they mean the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.capture.growing_corpus import step, trajectory

MEANINGS: list[Callable[..., Any]] = []


def meaning(f: Callable[..., Any]) -> Callable[..., Any]:
    MEANINGS.append(f)
    return f


@meaning
def written_in_the_next_turn(x, n):
    x = x.copy()
    out = []
    for _ in range(n):
        out.append(x)
        x *= 0.9
    return np.stack(out)


@meaning
def written_after_it_was_bound_in_the_turn(x, n):
    out = []
    for _ in range(n):
        x *= 2
        x = step(x)
        out.append(x)
    return np.stack(out), x


@meaning
def written_under_an_older_name(x, n):
    out = []
    old = x
    for _ in range(n):
        old += 1
        old = x
        x = step(x)
        out.append(x)
    return np.stack(out), x, old


@meaning
def swapped_and_written(x, n):
    a, b = x.copy(), x * 2
    out = []
    for _ in range(n):
        a += b
        a, b = b, a
        out.append(a)
    return np.stack(out), a, b


@meaning
def views_of_an_older_array(x, n):
    grid = np.zeros((n, 5))
    out = []
    for t in range(n):
        grid[t] = x * t
        out.append(grid[t])
    grid += 1
    return np.stack(out)


@meaning
def a_view_of_what_is_bound(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out.append(x[1:3])
    return np.stack(out), x


@meaning
def new_and_old_together(x, n):
    out = []
    for _ in range(n):
        y = step(x)
        out.append((x, y))
        x = y
    return np.stack([a for a, _ in out]), np.stack([b for _, b in out]), x


@meaning
def read_in_the_loop(x, n):
    out = [x]
    for _ in range(n):
        out.append(step(out[-1]))
    return np.stack(out)


@meaning
def length_in_the_loop(x, n):
    out = []
    for _ in range(n):
        x = step(x) * len(out)
        out.append(x)
    return np.stack(out)


@meaning
def read_under_another_name(x, n):
    out = []
    also = out
    for _ in range(n):
        x = step(x) + len(also)
        out.append(x)
    return np.stack(also)


@meaning
def read_through_a_container(x, n):
    out = []
    held = {"out": out}
    for _ in range(n):
        x = step(x) + len(held["out"])
        out.append(x)
    return np.stack(out)


@meaning
def read_by_a_function(x, n):
    out = []

    def count():
        return len(out)

    for _ in range(n):
        x = step(x) + count()
        out.append(x)
    return np.stack(out)


@meaning
def appended_by_a_function(x, n):
    out = []

    def keep(v):
        out.append(v)

    for _ in range(n):
        x = step(x)
        keep(x)
    return np.stack(out)


@meaning
def kept_in_the_loop(x, n):
    out = []
    also = None
    for _ in range(n):
        x = step(x)
        out.append(x)
        also = out
    also.append(x * 2)
    return np.stack(out), np.stack(also)


@meaning
def kept_in_an_object(x, n):
    held = {}
    out = []
    for _ in range(n):
        x = step(x)
        held["out"] = out
        out.append(x)
    return np.stack(held["out"])


@meaning
def asked_in_the_loop(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        if not out:
            x = x + 5
        if out is None or not isinstance(out, list):
            x = x + 9
        out.append(x)
    return np.stack(out)


@meaning
def asked_for_its_kind(x, n):
    out = []
    for _ in range(n):
        x = step(x) if isinstance(out, list) and type(out) is list and out is not None else x + 9
        out.append(x)
        x = x + 1 if type(out) is list else x
    return np.stack(out)


@meaning
def a_bound_method(x, n):
    out = []
    push = out.append
    for _ in range(n):
        x = step(x)
        push(x)
    return np.stack(out)


@meaning
def under_a_condition(x, n):
    out = []
    for t in range(n):
        x = step(x)
        if t % 3 == 0:
            out.append(x)
    return np.stack(out)


@meaning
def left_early(x, n):
    out = []
    for t in range(n):
        if t == 7:
            break
        x = step(x)
        out.append(x)
    return np.stack(out)


@meaning
def with_an_else(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out.append(x)
    else:
        out.append(x * 2)
    return np.stack(out)


@meaning
def growing_shapes(x, n):
    x = np.concatenate([x] * 8)
    out = []
    for t in range(n):
        out.append(x[:t].sum())
        out.append(x[:t] * 2)
    return out[0], out[7], out[-1]


@meaning
def changed_otherwise(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out.append(x)
        if len(out) > 3:
            out.pop(0)
    return np.stack(out)


@meaning
def a_window_that_moves(x, n):
    held = [x] * 3
    for _ in range(n):
        held.append(step(held[-1]))
        held.pop(0)
    return np.stack(held), held[0]


@meaning
def indices(x, n):
    out, at = [], []
    for t in range(n):
        x = step(x)
        out.append(x)
        at.append(t)
    return np.stack([out[k] for k in at[::2]]), range(at[3])[-1]


@meaning
def constants(x, n):
    out = []
    for t in range(n):
        x = step(x)
        out.append(0.5)
    return [v * 2 if v > 0.3 else x for v in out]


@meaning
def flat_nested_loops(x, n):
    out = []
    for _ in range(n):
        for k in range(6):
            x = step(x)
            out.append(x * k)
    return np.stack(out)


@meaning
def rows_read_by_a_loop(x, n):
    total = np.zeros(5)
    for y in trajectory(x, n):
        total = total * 0.5 + y
    for k, y in enumerate(trajectory(x, n)):
        total = total + k * y
    return total


@meaning
def changed_while_it_is_read(x, n):
    out = trajectory(x, n)
    total = x
    for k, y in enumerate(out):
        total = total + y
        if k + 1 < len(out):
            if n > 3:
                out[k + 1] = out[k + 1] + y
    return np.stack(out), total


@meaning
def returned_as_a_list(x, n):
    out, sums = [], []
    for _ in range(n):
        x = step(x)
        out.append(x)
        sums.append(x.sum())
    return out, sums


@meaning
def nested_lists(x, n):
    rows = []
    for _ in range(n):
        row = []
        for k in range(6):
            row.append(x[0] * k)
        x = step(x)
        rows.append(row)
    return np.array(rows), rows[3][2]


@meaning
def a_mixed_list(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out.append(x)
    out.insert(3, x * 2)
    out[5] = x
    del out[0]
    return np.stack(out), np.concatenate(out), np.vstack(out)


@meaning
def rows_written_by_a_loop(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out.append(x)
    for y in out:
        y *= 2
    return np.stack(out), x


@meaning
def the_first_is_an_argument(x, n):
    out = []
    y = x
    for _ in range(n):
        out.append(y)
        y = step(y)
    return np.stack(out), x * 2


@meaning
def a_dtype_that_changes(x, n):
    out = []
    y = 0
    for _ in range(n):
        out.append(y)
        y = y + x[0]
    return np.array(out)


@meaning
def swallowed(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        try:
            out.append(x)
        except Exception:
            pass
    return np.stack(out)


@meaning
def a_refusal_that_is_swallowed(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        try:
            out.append(x)
            y = out[-1]
        except Exception:
            y = x * 0
        x = x + y
    return np.stack(out)


@meaning
def a_second_loop_writes_the_last(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out.append(x)
    for k in range(n):
        x += k
    return np.stack(out), x


@meaning
def a_second_loop_grows_it_and_writes(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out.append(x)
    y = x
    for _ in range(n):
        x = x * 0.5
        out.append(x)
        y[0] += 1
    return np.stack(out), x, y


@meaning
def written_behind_the_append(x, n):
    out = []
    y = np.zeros(5)
    for t in range(n):
        y = y * 1
        out.append(y)
        y[:] = t
        w = y
    w[0] = 100
    return np.stack(out), y, w


@meaning
def one_list_under_two_names(x, n):
    a = []
    b = a
    for _ in range(n):
        x = step(x)
        a.append(x)
        b.append(x * 2)
    return np.stack(a), len(b)


@meaning
def dicts(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out.append({"x": x, "sum": np.sum(x)})
    return [o["sum"] for o in out], out[2]["x"]


@meaning
def other_dtypes(x, n):
    out, signs = [], []
    for t in range(n):
        y = x.astype(np.float32) * t
        out.append(y)
        signs.append(y > 0)
        x = x + 0.1
    return np.array(out), np.array(signs), sum(signs), np.any(signs)
