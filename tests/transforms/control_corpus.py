"""One function of an f64[5] for each way in which control flow is captured, differentiable where it is tested."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

CASES: dict[str, Callable[..., Any]] = {}

# three points that take different branches, of different trip counts and sizes, none at a kink
POINTS = np.array(
    [[0.913, -0.417, 0.352, 1.307, -0.723], [-0.556, 0.833, 1.151, -0.268, 0.454], [0.311, 0.658, -0.871, 0.219, 1.433]]
)


def case(f: Callable[..., Any]) -> Callable[..., Any]:
    CASES[f.__name__] = f
    return f


WEIGHTS = np.array([0.5, -1.0, 2.0, 0.25, 1.5])


class Cell:
    """Methods, attributes, properties, class and static methods."""

    rate = 0.3

    def __init__(self, x: Any) -> None:
        self.h = x * 0.5
        self.steps = 0

    def step(self, v: Any) -> None:
        if v > 0:
            self.h = np.tanh(self.h * self.rate + v)
        else:
            self.h = self.h - self.scaled(v)
        self.steps += 1

    @property
    def energy(self) -> Any:
        e = 0.0
        for i in range(len(self.h)):
            e += self.h[i] ** 2 * i
        return e

    @staticmethod
    def scaled(v: Any) -> Any:
        return v * 0.2 if v < -0.5 else v * 0.1

    @classmethod
    def relaxed(cls, x: Any) -> Any:
        y = x
        for _ in range(3):
            y = y * cls.rate + x
        return y

    def __call__(self, x: Any) -> Any:
        return self.h + np.sin(x)


@case
def method(x: Any) -> Any:
    cell = Cell(x)
    for v in x:
        cell.step(v)
    return cell.h * cell.energy + cell.steps


@case
def class_and_static_method(x: Any) -> Any:
    return Cell.relaxed(x) * Cell.scaled(x[1])


@case
def callable_object(x: Any) -> Any:
    cell = Cell(x)
    return cell(x) * 2


@case
def lambdas(x: Any) -> Any:
    f = lambda v: v * 2 if v > 0 else -v * v  # noqa: E731
    g, h = (lambda v: v + 1), (lambda v: v**3)
    return np.array([f(x[i]) * g(x[0]) - h(x[1]) for i in range(5)])


def scaled_by(c: float) -> Callable[..., Any]:
    def apply(v: Any, d: float = 0.5) -> Any:
        s = 0.0
        for i in range(len(v)):
            s += v[i] * c * i
        return s * d

    return apply


@case
def closure_of_a_factory(x: Any) -> Any:
    return x * scaled_by(3.0)(x) + scaled_by(0.1)(x, d=2.0)


@case
def closure_that_writes(x: Any) -> Any:
    total = 0.0
    y = x.copy()

    def visit(i: Any) -> None:
        nonlocal total
        total = total * 0.5 + y[i] ** 2
        y[i] *= total

    for i in range(len(x)):
        visit(i)
    return y + total


@case
def partial(x: Any) -> Any:
    def step(a: Any, b: Any, k: int = 1) -> Any:
        for _ in range(k):
            a = a * b + 0.1
        return a

    return functools.partial(step, b=x, k=3)(np.sin(x))


@case
def recursion(x: Any) -> Any:
    def power(v: Any, n: int) -> Any:
        if n == 0:
            return 1.0
        return v * power(v, n - 1)

    return power(x, 4) + power(x, 1)


@case
def range_up(x: Any) -> Any:
    s = 0.0
    for i in range(5):
        s = s * 0.7 + np.sin(x[i])
    return s


@case
def range_down_by_two(x: Any) -> Any:
    y = np.zeros(5)
    for i in range(4, -1, -2):
        y[i] = x[i] ** 2
        y[i - 1] += x[i] * 0.5
    return y


@case
def range_of_a_traced_count(x: Any) -> Any:
    n = np.count_nonzero(x > 0)
    y = x.copy()
    for i in range(n):
        y[i] = y[i] * x[n - 1] + i
    return y


@case
def range_of_traced_start_and_step(x: Any) -> Any:
    a = int(x[0] > 0)
    s = 0.0
    for i in range(a, 5, a + 1):
        s = s * 0.5 + x[i] ** 2 * i
    return s + a


@case
def range_of_a_traced_sign(x: Any) -> Any:
    n = np.count_nonzero(x > 0) - 3
    step = n + n + 1
    s = 0.0
    for i in range(2 - 2 * step, 2 + 3 * step, step):
        s = s * 0.5 + np.sin(i) * x[i % 5]
    return s


@case
def range_without_turns(x: Any) -> Any:
    y = x * 2
    for i in range(int(x[0] > 5)):
        y = y * x[i]
    return y


@case
def triangle(x: Any) -> Any:
    A = np.outer(x, x) + np.eye(5) * 4
    for i in range(5):
        for j in range(i):
            A[i, j] -= A[i, :j] @ A[j, :j]
            A[i, j] /= A[j, j]
        A[i, i] -= A[i, :i] @ A[i, :i]
        A[i, i] = math.sqrt(A[i, i])
    return A


@case
def range_over_len_of_view(x: Any) -> Any:
    y = x.copy()
    tail = y[1:]
    for i in range(1, len(tail)):
        tail[i] += tail[i - 1] * y[0]
    return y


@case
def while_on_a_value(x: Any) -> Any:
    y, n = x[0] * x[0] + 0.1, 0
    while y < 10:
        y = y * 1.7 + abs(x[1])
        n += 1
    return y + n


@case
def while_on_an_array(x: Any) -> Any:
    y = x * 0.3
    while np.abs(y).max() < 2.5:
        y = y * 1.5
        y[1:] += y[:-1] * 0.1
    return y


@case
def while_true(x: Any) -> Any:
    a = x[0] ** 2 + 1
    y = a
    while True:
        z = 0.5 * (y + a / y)
        if abs(z - y) < 1e-13:
            return z * x
        y = z


@case
def while_else(x: Any) -> Any:
    i, s = 0, 0.0
    while i < 5 and s < 1.0:
        s = s + x[i] ** 2
        i += 1
    else:
        s = s * 2
    return s * x[1]


@case
def while_in_while(x: Any) -> Any:
    y = x.copy()
    i = 0
    while i < 4:
        j = i
        while j > 0 and y[j] < y[j - 1]:
            y[j - 1 : j + 1] = y[j - 1 : j + 1][::-1]
            j -= 1
        i += 1
    return y * x


@case
def branches(x: Any) -> Any:
    if x[0] > 0.5:
        y = x * 2
    elif x[1] > 0.7:
        y = np.sin(x)
        y[0] = x[2]
    else:
        y = x**2
    return y


@case
def branch_without_else(x: Any) -> Any:
    y = x * 1.0
    if x[0] > 0:
        y[1:] *= x[0]
        if x[1] > 0:
            y[0] = y[2]
    return y


@case
def branch_makes_a_name(x: Any) -> Any:
    if x.sum() > 0.9:
        extra = x[0]
    else:
        extra = 0.0
    return x * extra + 1


@case
def branch_with_views(x: Any) -> Any:
    A = np.zeros((5, 5))
    for i in range(5):
        if x[i] > 0:
            row = A[i]
            row[: i + 1] = x[i] * 2
        else:
            A.T[i] -= x
    return A


@case
def conditional_expression(x: Any) -> Any:
    return (x if x[0] > 0 else -x * 2) * (1.0 if x[1] > 0 else x[2])


@case
def conditional_expression_runs_one_side(x: Any) -> Any:
    s = 0.0
    for v in x:
        s += math.log(v) if v > 0 else v * v
    return s


@case
def and_or_not(x: Any) -> Any:
    y = x * 1.0
    for i in range(1, 5):
        if (x[i] > 0 and x[i - 1] < 0.7) or not x[i] < 1.2:
            y[i] *= x[i - 1]
        if not (x[i] > 0.5 or x[i - 1] > 0.5):
            y[i - 1] = x[i] ** 2
    return y


@case
def and_or_of_values(x: Any) -> Any:
    n = np.count_nonzero(x > 1)
    return x * (n and 3.0) + (n or 7.0)


@case
def and_guards_an_index(x: Any) -> Any:
    i, s = 0, 0.0
    while i < len(x) and abs(x[i]) > 0.25:
        s += x[i] ** 3
        i += 1
    return s


@case
def break_out(x: Any) -> Any:
    s = 0.0
    for i in range(5):
        if s > 1.0:
            break
        s += x[i] ** 2
    return s * x


@case
def for_else(x: Any) -> Any:
    s = 1.0
    for v in x:
        if v > 1.2:
            s = s * v
            break
        s = s + v
    else:
        s = s * 10
    return s


@case
def continue_on(x: Any) -> Any:
    y = np.ones(5)
    for i in range(5):
        if x[i] < 0:
            continue
        y[i:] *= x[i]
    return y


@case
def break_and_continue_in_nest(x: Any) -> Any:
    s = 0.0
    for i in range(5):
        if x[i] > 1.25:
            continue
        for j in range(5):
            if j > i:
                break
            if x[j] < 0:
                continue
            s = s * 0.9 + x[i] * x[j]
    return s


@case
def early_return(x: Any) -> Any:
    if x[0] < 0:
        return x * x[1]
    y = np.exp(x)
    if x[1] > 0:
        return y - 1
    return y * 2


@case
def return_from_a_loop(x: Any) -> Any:
    s = 0.0
    for i in range(5):
        s += x[i]
        if s > 0.8:
            return s * x[i]
    return s


@case
def return_from_nested_loops(x: Any) -> Any:
    for i in range(4):
        for j in range(i + 1, 5):
            if x[i] * x[j] > 0.3:
                return x[i] ** 2 * x[j]
    return x[0] * 0.5


@case
def comparison_chain(x: Any) -> Any:
    y = x.copy()
    for i in range(5):
        if -0.5 < x[i] <= 0.85 != x[0]:
            y[i] = x[i] ** 2
        elif 0 < x[i] < 1.35:
            y[i] = -x[i]
    return y


@case
def asserts(x: Any) -> Any:
    assert x.shape == (5,)
    s = 0.0
    for v in x:
        assert v > -10, "too small"
        s += v * v
    assert s > 0
    return np.sqrt(s) * x


@case
def rows(x: Any) -> Any:
    A = np.outer(x, WEIGHTS)
    s = np.zeros(5)
    for row in A:
        s = np.tanh(s * 0.5 + row)
    return s


@case
def rows_written(x: Any) -> Any:
    A = np.outer(x, WEIGHTS)
    for row in A:
        row[1:] += row[:-1] * 0.5
    return A


@case
def columns(x: Any) -> Any:
    A = np.outer(x, x)
    for i, column in enumerate(A.T):
        column *= i + 1
        column[i] = 0
    return A


@case
def enumerated(x: Any) -> Any:
    s = 0.0
    for i, v in enumerate(x):
        s += v**2 * i
    for i, v in enumerate(x, start=2):
        s *= 1 + v / i
    return s


@case
def zipped(x: Any) -> Any:
    s = 0.0
    for a, b, w in zip(x, x[1:], WEIGHTS, strict=False):
        s = s * 0.3 + a * b * w
    return s


@case
def reversed_array_and_range(x: Any) -> Any:
    s = 0.0
    for v in reversed(x):
        s = s * 0.5 + v
    for i in reversed(range(1, 5)):
        s = s * x[i] + x[i - 1]
    return s


@case
def enumerate_zip_reversed(x: Any) -> Any:
    y = np.zeros(5)
    for i, (a, (k, b)) in enumerate(zip(reversed(x), enumerate(x), strict=True)):
        y[i] += a * b + k
    return y


@case
def augmented(x: Any) -> Any:
    y = x.copy()
    z = y[::2]
    for i in range(3):
        z += x[i]
        y[i] *= 0.5
        y[1:3] -= z[:2]
        y **= 2
        y *= 0.4
        z /= 2.0
    return y


@case
def augmented_mask_and_list(x: Any) -> Any:
    y = x.copy()
    y[y > 0.4] *= 3
    y[[0, 3]] += x[1]
    y[-1] -= x[0]
    return y


@case
def nested_functions(x: Any) -> Any:
    def outer(v: Any) -> Any:
        def inner(w: Any, n: int) -> Any:
            for _ in range(n):
                w = w * 0.5 + v
            return w

        return inner(v * v, 3) if v[0] > 0 else inner(v, 2)

    return outer(x) + outer(-x)


@case
def mask_read(x: Any) -> Any:
    m = x > 0
    return (x[m] ** 2).sum() * x[~m].sum()


@case
def mask_write(x: Any) -> Any:
    y = x.copy()
    m = x > 0.32
    y[m] = x[m] ** 3
    y[~m] = -1.0
    return y


@case
def mask_of_rows(x: Any) -> Any:
    A = np.outer(x, WEIGHTS)
    A[x < 0] = x
    return A[x > 0].sum(axis=0)


@case
def mask_in_a_loop(x: Any) -> Any:
    y = x * 0.5
    for _ in range(3):
        y[y < 0.4] += x[0] ** 2 + 0.2
    return y


@case
def nonzero_positions(x: Any) -> Any:
    (where,) = np.nonzero(x > 0)
    s = 0.0
    for i in where:
        s = s * 0.5 + x[i] ** 2
    return s + x[where].prod()


@case
def compress_and_repeat(x: Any) -> Any:
    y = np.compress(x > 0, x)
    return (y * y).sum() + np.repeat(x, [0, 2, 1, 3, 1]).prod()


@case
def traced_size(x: Any) -> Any:
    n = np.count_nonzero(x > 0)
    buf = np.zeros(n)
    for i in range(n):
        buf[i] = x[i] * x[n - i]
    return np.sin(buf).sum() + np.arange(n).sum() * x[0]


@case
def traced_slices(x: Any) -> Any:
    y = np.zeros(5)
    for i in range(5):
        y[i] = x[:i].sum() * x[i:].sum() + x[i // 2 : i : 1] @ x[i // 2 : i]
    return y


@case
def traced_slice_written(x: Any) -> Any:
    y = x.copy()
    for i in range(1, 5):
        y[i:] -= y[i - 1] * x[: 5 - i]
        y[:i] *= 0.9
    return y


@case
def slice_by_value(x: Any) -> Any:
    i = int(np.argmax(x))
    y = x.copy()
    y[:i] = y[:i] * x[i]
    y[i:] += 1
    return y


@case
def slice_with_negative_step(x: Any) -> Any:
    y = np.zeros(5)
    for i in range(1, 5):
        y[:i] += x[i:0:-1] * x[i]
    return y


@case
def swapped(x: Any) -> Any:
    a, b = x.copy(), x * 2
    for _ in range(3):
        b[1:-1] = a[1:-1] ** 2 * 0.4 + a[2:] - a[:-2]
        a, b = b, a
    return a


@case
def tuple_and_dict_state(x: Any) -> Any:
    state = (0.0, {"m": x, "n": 0})
    for v in x:
        state = (state[0] + v * state[1]["m"][0], {"m": state[1]["m"] * v, "n": state[1]["n"] + 1})
    return state[0] * state[1]["m"] + state[1]["n"]


@case
def none_then_value(x: Any) -> Any:
    best = None
    for v in x:
        if best is None or v < best:
            best = v
    return best * x


@case
def appended(x: Any) -> Any:
    out = []
    for i in range(5):
        out.append(x[i] * x[i - 1])  # noqa: PERF401
    return np.array(out)


@case
def comprehension(x: Any) -> Any:
    return np.array([v * v if v > 0 else v for v in x]) * sum(x[i] * i for i in range(5))


@case
def python_containers(x: Any) -> Any:
    y = x
    for name, w in {"a": 2.0, "b": -0.5}.items():
        for k in [1, 2]:
            y = y * w + k if name == "a" else np.sin(y)
    return y


@case
def walrus(x: Any) -> Any:
    n = 0
    while (v := x[n]) < 0.8:
        n += 1
    return v**2 + n


@case
def starred_and_unpacked(x: Any) -> Any:
    first, *rest = x
    s = first
    for a, b in zip(rest, rest[::-1], strict=True):
        s = s * a + b
    return s


@case
def try_and_with(x: Any) -> Any:
    y = x
    with np.errstate(all="ignore"):
        y = y * 2
        if y[0] > 0:
            y = y + x[1]
    return y**2


@case
def branch_in_loop_of_loops(x: Any) -> Any:
    y = np.zeros((3, 5))
    for t in range(3):
        for i in range(5):
            left = y[t - 1, i] if t > 0 else x[i]
            if left > 0.3:
                y[t, i] = left * x[i]
            else:
                y[t, i] = left + x[4 - i] ** 2
    return y


@case
def argument_written(x: Any) -> Any:
    for i in range(1, 5):
        x[i] = x[i - 1] * x[i]
    if x[0] > 0:
        x[0] = 2.0
    return x


@case
def concrete_index_in_short_loop(x: Any) -> Any:
    parts = (x[0], x[1] * 2, np.sin(x[2]))
    s = 0.0
    for k in range(3):
        s = s * 0.5 + parts[k]
    return s


@case
def unused_results_and_del(x: Any) -> Any:
    y = x * 2
    t = y + 1
    for i in range(5):
        t = y * i
        y = y + t
    del t
    return y


@case
def chained_assignment_in_loop(x: Any) -> Any:
    a = b = x[0]
    y = np.zeros(5)
    for i in range(1, 5):
        a = b = a * x[i] + b
        y[i] = y[i - 1] = a
    return y + b


@case
def iterator_by_hand(x: Any) -> Any:
    it = iter(x)
    s = next(it)
    for v in it:
        s = s * v + 0.1
    return s


@case
def min_max_sum_builtins(x: Any) -> Any:
    s = 0.0
    for i in range(1, 5):
        s += max(x[i], x[i - 1]) * min(x[0], x[i]) + abs(x[i])
    return s + sum(x) + max(x) * 2


@case
def any_all(x: Any) -> Any:
    y = x * 1.0
    if any(v > 1.35 for v in x):
        y = y * 2
    if np.all(x > -0.8) and all([x[0] > -1, x[1] > -1]):
        y = y**2
    return y
