"""Programs whose arrays have lengths that loops and branches decide: f(x, n), with as many nodes for any n."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

STAGED: list[Callable[..., Any]] = []


def staged(f: Callable[..., Any]) -> Callable[..., Any]:
    STAGED.append(f)
    return f


@staged
def append(x, n):
    out = np.array([])
    for i in range(n):
        out = np.append(out, x[i % 5] * x[i % 7])
    return out


@staged
def vstack(x, n):
    rows = np.zeros((0, len(x)))
    for i in range(n):
        rows = np.vstack([rows, x * i])
    return rows


@staged
def append_to_what_is_there(x, n):
    out = x[:2]
    for _ in range(n):
        out = np.concatenate([out, [out[-1] * 0.9 + out[-2] * 0.2]])
    return out


@staged
def append_in_front(x, n):
    out = x[:1]
    for i in range(n):
        out = np.concatenate([x[i % 3 : i % 3 + 2], out])
    return out


@staged
def append_under_a_condition(x, n):
    out = x[:0]
    for i in range(n):
        if x[i % 9] > 0.5:
            out = np.append(out, x[i % 9] * i)
    return out


@staged
def append_until(x, n):
    out = x[:0]
    for i in range(n):
        out = np.append(out, x[i % 9] * i)
        if out.sum() > 6:
            break
    return out * 2


@staged
def filtered(x, n):
    for i in range(n):
        x = x[x > 0.01 * i] * 1.01
    return x


@staged
def filtered_together(x, n):
    y, where, out = x * 2, np.arange(len(x)), np.zeros(len(x))
    for _ in range(n):
        y = y * y * 0.7 + x[where]
        done = y > 2
        out[where[done]] = y[done]
        where, y = where[~done], y[~done]
    return out


@staged
def filtered_until(x, n):
    for _ in range(n):
        keep = np.abs(x - x.mean()) < 1.5 * x.std()
        if keep.all():
            break
        x = x[keep]
    return x * 3


@staged
def ends_cut_off(x, n):
    y = x[x > 0.05]
    for _ in range(n):
        y = y[1:] * 0.5 + y[:-1]
        if len(y) < 4:
            break
    return y


@staged
def ends_cut_off_unread(x, n):
    y = x[x > 0.05]
    for _ in range(n):
        if len(y) > 2:
            y = y[::-1][1:]
    return y * y


@staged
def written_and_cut(x, n):
    y = x.copy()
    for i in range(n):
        y[0] = y[0] * 2 + i
        y = y[min(i, 1) : max(len(y) - 1, 3)]
    return y


@staged
def columns(x, n):
    a = np.outer(x, x)
    for i in range(n):
        a = a[:, a[0] > 0.02 * i] * 1.1
    return a


@staged
def last_selection(x, n):
    for i in range(n):
        w = x[x > 0.5 - 0.4 / (i + 1)]
    return w * 2


@staged
def last_slice(x, n):
    total = 0.0
    for i in range(n):
        w = x[: min(i, 7)] * x[i % 5]
        total = total + w.sum()
    return w + total


@staged
def returned_from_a_loop(x, n):
    for i in range(n):
        y = x[x > 0.02 * i]
        if y.sum() < 9:
            return y * 2
    return x


@staged
def a_length_is_carried(x, n):
    count, k = len(x[x > 0.5]), 0
    for i in range(n):
        k += count
        count = len(x[x > 0.05 * i])
    return x[:2] * k + count


@staged
def loops_in_loops(x, n):
    out = np.zeros(0)
    for i in range(n):
        y = x[x > 0.05 * i]
        while len(y) > 2:
            y = y[y > y.mean()]
        out = np.append(out, y.sum())
    return out


@staged
def a_branch_chooses(x, n):
    total = 0.0
    for i in range(n):
        y = x[x > 0.5] if x[i % 8] > 0.4 else x[: 3 + i % 2] * 2
        total += (y * y).sum()
    return np.array([total])


@staged
def halves_and_selections_meet(x, n):
    a, b = x[:5], x[x > 0.7]
    for _ in range(n):
        a = a[: len(a) // 2 + 1]
        if len(b) > 0:
            a = a[a < 0.95]
            a = a[::2] * 0.63
    return a


@staged
def one_length_after_many(x, n):
    y, k = x[x > 0.4], 0
    while y.sum() > 0.1 and k < n:
        y = x[:4] * 0.5**k
        y = y[1:]
        k += 1
    return y
