"""What a trace reads from outside: arrays become hidden arguments, other values guards, each with its path."""

from __future__ import annotations

import dataclasses
import functools
import math
import random
import types

import numpy as np
import pytest

from stager.capture import TRACERS, Session, convert, do_not_convert, path_text, use, why_not
from stager.errors import UnsupportedError


class Fake:
    """Stands in for a traced array."""

    def __init__(self, name):
        self.name = name
        self.writes = 0

    def __repr__(self):
        return f"<{self.name}>"

    def __iadd__(self, other):
        self.writes += 1
        return self

    def __add__(self, other):
        return Fake(f"{self.name}+{other!r}")

    def __mul__(self, other):
        return Fake(f"{self.name}*{other!r}")


@pytest.fixture(autouse=True)
def fake_tracers():
    TRACERS.add(Fake)
    yield
    TRACERS.discard(Fake)


class Fakes(Session):
    def captured_array(self, path, array):
        return Fake(path_text(path))


def run(f, *args, **kwargs):
    s = Fakes()
    with use(s):
        out = convert(f, s)(*args, **kwargs)
    return out, s


PARTS = ("__code__", "__defaults__", "__kwdefaults__")  # of every function that is called: test_unseen_reads.py


def guards(s):
    seen = [g for g in s.guards.values() if not any(step[0] == "attr" and step[1] in PARTS for step in g.path)]
    return {(path_text(g.path), g.kind): g.value for g in seen}


W = np.ones(3)
V = W
RATE = 0.5
NAME = "x"
NOTHING = None
PARAMS = {"w": np.zeros(2), "layers": [np.ones(1), (np.ones(2), 3)], "n": 4}
PAIR = (np.zeros(1), np.ones(1))
counter = 0
total = np.zeros(1)


@dataclasses.dataclass
class Point:
    x: object
    y: object


class Model:
    scale = 2.0

    def __init__(self):
        self.w = np.ones(2)
        self.layers = [Point(np.ones(1), 1), Point(np.ones(2), 2)]
        self.depth = len(self.layers)
        self.activation = relu
        self.last = None

    @property
    def doubled(self):
        return self.w * 2

    def __call__(self, x):
        for layer in self.layers:
            x = self.activation(layer.x + x)
        return x, self.depth * self.scale

    def step(self, x):
        self.w += x
        self.last = x
        self.seen = 3
        return self.last, self.w


def relu(x):
    return x + RATE


MODEL = Model()


def test_globals() -> None:
    def f():
        return W, RATE, NAME, NOTHING, V

    out, s = run(f)
    assert repr(out) == "(<W>, 0.5, 'x', None, <W>)"
    assert guards(s) == {
        ("RATE", "eq"): 0.5,
        ("NAME", "eq"): "x",
        ("NOTHING", "eq"): None,
        ("V", "same"): out[0],
    }


def test_closure_cells_and_defaults() -> None:
    w, k = np.ones(2), 3

    def f(x, a=w, *, b=RATE, c=1):
        return w, k, a, b, c

    out, s = run(f, 0)
    assert repr(out[:1]) == "(<the default of a>,)"
    assert out[0] is out[2]  # one array by two names
    assert out[1:2] + out[3:] == (3, 0.5, 1)
    assert guards(s)[("k", "eq")] == 3
    assert guards(s)[("the default of b", "eq")] == 0.5
    cell = next(g.path[0][1] for g in s.guards.values() if g.kind == "eq" and g.value == 3)
    assert isinstance(cell, types.CellType)
    assert cell.cell_contents == 3


def test_a_given_argument_is_not_its_default() -> None:
    def f(a=W):
        return a

    assert run(f, 5)[0] == 5


def test_containers() -> None:
    def f():
        w = PARAMS["w"]
        a, b = PAIR
        (c,) = PAIR[1:]
        d = {k: v for k, v in PARAMS.items()}
        e = [x for x in PARAMS["layers"]]
        return w, a, b, c, d["w"], e[1], len(PARAMS["layers"]), "n" in PARAMS, list(PAIR), PARAMS.get("none"), [*PAIR]

    out, s = run(f)
    assert repr(out) == (
        "(<PARAMS['w']>, <PAIR[0]>, <PAIR[1]>, <PAIR[1]>, <PARAMS['w']>, (<PARAMS['layers'][1][0]>, 3), 2, True, "
        "[<PAIR[0]>, <PAIR[1]>], None, [<PAIR[0]>, <PAIR[1]>])"
    )
    assert guards(s)[("PARAMS", "keys")] == ("w", "layers", "n")
    assert guards(s)[("PAIR", "len")] == 2
    assert guards(s)[("PARAMS['layers'][1][1]", "eq")] == 3


def test_one_item_needs_no_guard_of_the_others() -> None:
    def f():
        return PARAMS["n"]

    assert guards(run(f)[1]) == {("PARAMS", "type"): dict, ("PARAMS['n']", "eq"): 4}


def test_a_missing_key_guards_the_keys() -> None:
    def f():
        return PARAMS["none"]

    s = Fakes()
    with use(s), pytest.raises(KeyError):
        convert(f, s)()
    assert guards(s)[("PARAMS", "keys")] == ("w", "layers", "n")


def test_objects() -> None:
    def f(x):
        return MODEL(x), MODEL.w, MODEL.doubled

    out, s = run(f, 1)
    assert repr(out[1:]) == "(<MODEL.w>, <MODEL.w*2>)"
    assert out[0][1] == 4.0
    found = guards(s)
    assert found[("MODEL", "type")] is Model
    assert found[("MODEL.activation", "is")] is relu
    assert found[("RATE", "eq")] == 0.5
    assert found[("MODEL.layers", "len")] == 2
    assert found[("MODEL.depth", "eq")] == 2
    assert ("MODEL.layers[0].y", "eq") not in found


def test_bound_methods_begin_at_their_object() -> None:
    out, s = run(MODEL.__call__, 1)
    assert out[1] == 4.0
    assert next(iter(s.guards.values())).path[0][0] in ("global", "object")
    assert guards(s)[("<Model>.depth", "eq")] == 2


def test_writes_to_older_objects_stay_with_the_trace() -> None:
    model = Model()
    kept = model.w

    def f(x):
        got = model.step(x)
        return got, model.last, model.seen

    out, s = run(f, Fake("x"))
    assert repr(out[0]) == "(<x>, <model.w>)"
    assert out[1] is out[0][0]
    assert out[2] == 3
    assert model.w is kept
    assert model.last is None
    assert [(path_text(st.path), st.value) for st in s.stores.values()] == [("model.last", out[1])]


def test_declared_globals() -> None:
    def f(x):
        global counter, total
        counter += 1
        total += x
        before = total
        total = x
        return counter, before, total

    x = Fake("x")
    out, s = run(f, x)
    assert repr(out) == "(1, <total>, <x>)"
    assert counter == 1
    assert isinstance(total, np.ndarray)
    assert guards(s)[("counter", "eq")] == 0
    assert [path_text(st.path) for st in s.stores.values()] == ["total"]


def test_objects_made_by_the_trace_are_its_own() -> None:
    def f(x):
        p = Point(x, 1)
        p.x = p.x + 1
        m = Point.__new__(Point)
        m.x = [p]
        m.x[0].y = x
        return p.x, m.x[0].y

    out, s = run(f, Fake("x"))
    assert repr(out) == "(<x+1>, <x>)"
    assert not s.stores


def test_functions_and_modules_are_guarded_once() -> None:
    def f(x):
        for _ in range(5):
            x = relu(x)
            math.sqrt(2)
            np.pi
        return x

    _, s = run(f, 1)
    assert sorted(k for k in guards(s)) == [("RATE", "eq"), ("math", "is"), ("np", "is"), ("relu", "is")]


def test_a_module_that_becomes_an_array_is_seen() -> None:
    ns: dict[str, object] = {"__name__": "program"}
    import linecache

    text = "def f():\n    return thing\n"
    linecache.cache["/user/thing.py"] = (len(text), None, text.splitlines(True), "/user/thing.py")
    exec(compile(text, "/user/thing.py", "exec"), ns)
    ns["thing"] = math
    assert run(ns["f"])[0] is math
    ns["thing"] = np.ones(2)
    assert repr(run(ns["f"])[0]) == "<thing>"


def test_partials_and_lru_caches() -> None:
    def g(a, b, k=2):
        return a, b, k

    p = functools.partial(g, W, k=PARAMS["w"])

    @functools.lru_cache
    def cached(x):
        return (x, RATE)

    def f(x):
        return p(x), cached(x)

    out, _ = run(f, 1)
    assert repr(out) == "((<p.args[0]>, 1, <p.keywords['k']>), (1, 0.5))"
    assert cached.cache_info().currsize == 0


def test_lambdas_on_one_line() -> None:
    a, b = lambda x: x + RATE, lambda x: (lambda y: y * RATE)(x)
    for f, want in ((a, "<x+0.5>"), (b, "<x*0.5>")):
        assert why_not(f) is None
        assert repr(run(f, Fake("x"))[0]) == want


def test_opting_out() -> None:
    @do_not_convert
    def f():
        return W

    assert run(f)[0] is W


def test_source_that_cannot_be_read() -> None:
    ns: dict[str, object] = {}
    exec("def f(x):\n    return x", ns)
    assert run(ns["f"], 3)[0] == 3
    assert "source cannot be read" in str(why_not(ns["f"]))  # type: ignore[arg-type]


def test_the_same_array_as_an_argument() -> None:
    def f(x):
        return W, x

    s = Fakes()
    x = Fake("argument")
    s.add_argument(W, x, (("object", 0),))
    with use(s):
        out = convert(f, s)(x)
    assert out == (x, x)


@pytest.mark.parametrize("draw", [lambda: np.random.rand(3), lambda: np.random.default_rng(0), lambda: random.random()])
def test_randomness_is_refused(draw) -> None:
    with pytest.raises(UnsupportedError, match=r"st\.random"):
        run(draw)


def test_converted_closures_outlive_their_trace() -> None:
    def f(x):
        def g(y):
            return x * y * RATE if y > 1 else W

        return g

    g, _ = run(f, 2)
    assert g(3) == 3.0
    assert g(0) is W
