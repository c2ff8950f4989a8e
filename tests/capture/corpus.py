"""Python functions with every statement that the converter rewrites; run as they are and converted, on plain values."""

from __future__ import annotations

import contextlib
import functools
from collections import namedtuple
from typing import Any

Pair = namedtuple("Pair", "a b")
LIMIT = 3
TABLE = {"x": 1, "y": [10, 20, 30]}
counter = 0


def branches(a, b):
    if a > b:
        r = "more"
    elif a == b:
        r = "same"
    else:
        r = "less"
    return r, a if a < b else b, not a, a and b, a or b, 0 < a < b, a == b != 3


def guards(a, b):
    if a < 0:
        return "negative"
    if b < 0:
        return "b negative"
    x = a
    if a > 5:
        if b > 5:
            return "both"
        x += 1
    if x == 6:
        return x
    for i in range(b):
        if i == a:
            return ("found", i)
        x += i
    return x


def loops(a, b):
    out = []
    for i in range(a):
        if i % 2:
            continue
        for j in range(b):
            if j > i:
                break
            if j == LIMIT:
                out.append("limit")
                continue
            out.append((i, j))
        else:
            out.append("inner else")
    else:
        out.append("outer else")
    return out, i if a > 0 else None


def whiles(a, b):
    n = 0
    while a > 0 and n < 20:
        a -= 1
        n += b
        if n == 7:
            break
        while b > 2:
            b -= 1
            if b == 4:
                continue
            n += 1
    else:
        n = -n
    return a, b, n


def forever(a, b):
    while True:
        a += 1
        if a > b:
            return a
        if a == 3:
            break
    return -a


def after_loop(a, b):
    for x in (1, a, b):
        y = x * 2
    return x, y


def unbound(a, b):
    if a > b:
        z = 1
    return z


def unbound_loop(a, b):
    for i in range(a):
        z = i
    return z


def deletes(a, b):
    z = a
    if b > 2:
        del z
    return z


def tries(a, b):
    log = []
    for i in range(a):
        try:
            log.append(i)
            if i == b:
                raise ValueError(i)
            if i == 3:
                continue
            if i > 4:
                return log
            log.append("ok")
        except ValueError as e:
            log.append(repr(e))
            if b == 2:
                break
        else:
            log.append("else")
        finally:
            log.append("finally")
    return "end", log


def contexts(a, b):
    log = []

    @contextlib.contextmanager
    def noted(name):
        log.append(name)
        try:
            yield name
        finally:
            log.append(-1)

    for i in range(a):
        with noted(i) as n, contextlib.suppress(KeyError):
            if n == b:
                raise KeyError
            if n > 3:
                return log
            log.append("body")
        log.append("after")
    return log


def closures(a, b):
    fs = []
    for i in range(a):

        def f(x, k=i):
            nonlocal b
            b += 1
            return x + i + k

        fs.append(f)
        fs.append(lambda x: x * i if x > i else b)
    return [f(2) for f in fs], b


def comprehensions(a, b):
    xs = [i * j for i in range(a) for j in range(b) if i != j]
    d = {k: v for k, v in zip("abc", xs, strict=False)}
    s = {x % 3 for x in xs}
    g = sum(x for x in xs if x > 1)
    if (n := len(xs)) > 2:
        g += n
    return xs, d, sorted(s), g, [y := 1, y**2], n


def unpacking(a, b):
    (p, q), *rest = (a, b), *range(a), *[b]
    u = v = a
    x: int = 3
    y: int
    w = Pair(a, b)
    for i, (k, l) in enumerate([(a, b), w]):
        p += i * k - l
    d = {"b": b, "a": a}
    return p, q, rest, u, v, x, collect(*rest, **d)


def collect(*args, a=0, b=0):
    return args, a, b


def matches(a, b):
    for v in ((a, b), [a], {"k": b}, a, "s"):
        match v:
            case (0, y):
                return "zero", y
            case (x, y) if x > y:
                r = x
            case {"k": k}:
                r = k
                if k == 3:
                    break
            case int(n):
                r = n
            case _:
                r = None
    return r


def global_store(a, b):
    global counter
    if a > b:
        counter += a
    else:
        counter = b
    return counter


def subscripts(a, b):
    x = list(range(10))
    x[a : a + 2] = [b]
    x[0] += 5
    d = {}
    d["k"], d["l"] = a, b
    d["k"] *= 3
    del x[1]
    return x, d, TABLE["y"][1:], TABLE["x"], x[-1], len(TABLE["y"])


def asserts(a, b):
    assert a >= 0, f"a is {a}"
    assert b
    return a


def raises(a, b):
    if a > 3:
        raise ValueError("large") from KeyError(b)
    try:
        if b > 3:
            raise TypeError
    except TypeError:
        raise
    return a


class Base:
    scale = 2

    def __init__(self, a):
        self.a = a
        self.__hidden = a * 10

    @property
    def twice(self):
        return self.a * self.scale

    @twice.setter
    def twice(self, v):
        self.a = v // self.scale

    def method(self, b):
        if b > 3:
            return self.__hidden
        return self.a + b

    @classmethod
    def make(cls, a):
        return cls(a)

    @staticmethod
    def add(a, b):
        return a + b

    def __call__(self, x):
        return self.method(x)


class Derived(Base):
    def __init__(self, a):
        super().__init__(a + 1)
        for i in range(3):
            self.a += i

    def method(self, b):
        return super().method(b) if b < 0 else super().method(b) * 100


def objects(a, b):
    o = Base(a)
    p = Derived.make(b)
    o.twice = 14
    o.a += 1
    return o.method(b), p.method(a), o.twice, Base.add(a, b), p(b), functools.partial(Base.add, a)(b), p.__dict__


def generator(n):
    for i in range(n):
        if i == 2:
            continue
        if i > 4:
            return
        got = yield i
        if got:
            yield "got"


def generators(a, b):
    return list(generator(a)), sum(generator(b)), next((x for x in range(a) if x > b), None)


def recursion(a, b):
    if a <= 1:
        return b
    return recursion(a - 1, b) + recursion(a - 2, b)


def fstrings(a, b):
    return f"{a if a > b else b!r:>5} {a + b:03d}", "x" * a if b in (1, 2, a) else "no", a not in [b]


def dynamic(a, b):
    for i in range(a):
        c = i
    return sorted(locals()) if b else eval("a + b")


def nested_elses(a, b):
    for i in range(a):
        for j in range(b):
            if i * j == 4:
                break
        else:
            continue
        break
    else:
        return "none"
    return i, j


def while_else_return(a, b):
    i = 0
    while i < a:
        if i == b:
            return "b"
        i += 1
    else:
        if a > 5:
            return "big"
    return i


def lambdas(a, b):
    f, g = lambda x: x + a, lambda x: x - b if x > b else (lambda y: y * x)(b)
    return f(b), g(a), (lambda: (yield))


def defaults(a, b, c=(1, 2), *, d=LIMIT, e=None):
    e = [] if e is None else e
    e.append(a)
    return c, d, e


def finally_return(a, b):
    for i in range(a):
        try:
            if i == 2:
                return "two"
        finally:
            if b == 1:
                return "finally"
    return "end"


def lambdas_result(value: Any) -> Any:
    return value


FUNCTIONS = [
    branches, guards, loops, whiles, forever, after_loop, unbound, unbound_loop, deletes, tries, contexts, closures,
    comprehensions, unpacking, matches, global_store, subscripts, asserts, raises, objects, generators, recursion,
    fstrings, dynamic, nested_elses, while_else_return, defaults, finally_return,
]  # fmt: skip
