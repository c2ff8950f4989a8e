"""`export` and `import_`: the function that comes back is the function that went, under every transform; texts that are
damaged or newer are refused; and texts that earlier versions wrote (tests/exports/) load for ever."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
import subprocess
import sys
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.__main__ import main
from stager.errors import DTypeError, ShapeError, UnsupportedError
from stager.export_text import EXPORT_VERSION
from stager.exported import Exported, ExportError
from stager.ir.hash import structural_hash
from stager.ops.effects import callback
from tests.programs import all_programs
from tests.programs.program import Program

STORED = Path(__file__).parent / "exports"
OFFSET = np.array([0.5, -1.0, 2.0])


@dataclasses.dataclass
class Layer:
    w: Any
    b: Any


Pair = namedtuple("Pair", ["first", "second"])


def classifier(params: Any, x: Any) -> Any:
    h = np.tanh(x @ params["w"] + params["b"])
    z = h - np.max(h, axis=1, keepdims=True)
    return z - np.log(np.sum(np.exp(z), axis=1, keepdims=True))


def smooth(u: Any, steps: Any) -> Any:
    for _ in range(steps):
        u[1:-1] = 0.25 * u[:-2] + 0.5 * u[1:-1] + 0.25 * u[2:]
    return u


def positives(x: Any, scale: float = 2.0, *, mode: str = "sum") -> Any:
    kept = x[x > 0] * scale
    return (kept, kept.sum()) if mode == "sum" else kept


def shifted(x: Any) -> Any:
    return {"moved": x + OFFSET, "rows": (x[0], x.T), "count": x.shape[0], "nothing": None}


def root(a: Any) -> Any:
    x, n = a, 0
    while abs(x * x - a) > 1e-12:
        x = 0.5 * (x + a / x)
        n += 1
    return (x, n) if n > 3 else (x, -n)


def layers(model: Any, x: Any) -> Any:
    return Pair(model.w @ x + model.b, OrderedDict(norm=np.sqrt(np.sum(x * x))))


FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "classifier": (classifier, ({"w": "f64[4,3]", "b": "f64[3]"}, "f64[n,4]")),
    "smooth": (smooth, ("f64[n]", "i64[]")),
    "positives": (positives, ("f64[n]",)),
    "shifted": (shifted, ("f64[n,3]",)),
    "root": (root, ("f64[]",)),
    "layers": (layers, (Layer("f32[2,3]", "f32[2]"), "f32[3]")),
    "gradient": (st.vmap(st.grad(lambda x: np.sum(np.sin(x) ** 2))), ("f64[n,4]",)),
}
CONTAINERS = (Layer, Pair)


def arguments(name: str) -> tuple[Any, ...]:
    rng = np.random.default_rng(7)
    return {
        "classifier": ({"w": rng.normal(size=(4, 3)), "b": rng.normal(size=3)}, rng.normal(size=(5, 4))),
        "smooth": (rng.normal(size=9), 4),
        "positives": (rng.normal(size=11),),
        "shifted": (rng.normal(size=(4, 3)),),
        "root": (np.array(3.0),),
        "layers": (Layer(*[rng.normal(size=s).astype(np.float32) for s in ((2, 3), 2)]), np.ones(3, np.float32)),
        "gradient": (rng.normal(size=(2, 4)),),
    }[name]


def assert_same(got: Any, want: Any) -> None:
    flat, structure = st.runtime.structure.flatten(got)
    expected, other = st.runtime.structure.flatten(want)
    assert structure == other
    for g, w in zip(flat, expected, strict=True):
        assert np.asarray(g).dtype == np.asarray(w).dtype
        np.testing.assert_allclose(g, w, rtol=1e-6 if np.asarray(w).dtype == np.float32 else 1e-13, atol=1e-13)


# -- what comes back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_imported_function_is_the_exported_one(name: str) -> None:
    fn, specs = FUNCTIONS[name]
    exported = st.export(fn, *specs)
    loaded = st.import_(exported.text, containers=CONTAINERS)
    assert loaded.text == exported.text
    assert structural_hash(loaded.graph) == structural_hash(exported.graph)
    assert_same(loaded(*arguments(name)), fn(*arguments(name)))
    assert_same(st.compile(loaded)(*arguments(name)), fn(*arguments(name)))
    assert_same(pickle.loads(pickle.dumps(loaded))(*arguments(name)), fn(*arguments(name)))
    assert st.export(loaded, *specs).graph.input_types == exported.graph.input_types


@pytest.mark.parametrize("p", all_programs(), ids=lambda p: p.name)
def test_programs(p: Program, rng: np.random.Generator) -> None:
    args = p.inputs(rng)
    loaded = st.import_(st.export(p.fn, *args).text)
    got, want = loaded(*args), p.fn(*args)
    for g, w in zip(*[x if isinstance(x, tuple) else (x,) for x in (got, want)], strict=True):
        assert np.asarray(g).dtype == np.asarray(w).dtype
        scale = np.max(np.abs(np.asarray(w, np.float64)), initial=0.0)
        np.testing.assert_allclose(g, w, rtol=p.tolerance, atol=p.tolerance * scale)


def test_it_transforms_again(rng: np.random.Generator) -> None:
    def f(w: Any, x: Any) -> Any:
        total = 0.0
        for i in range(x.shape[0]):
            total = total + np.tanh(np.dot(w, x[i])) ** 2
        return total

    loaded = st.import_(st.export(f, "f64[3]", "f64[n,3]").text)
    w, x = rng.normal(size=3), rng.normal(size=(5, 3))
    for transform in (
        st.grad,
        st.hessian,
        st.jacfwd,
        lambda g: st.grad(lambda w, x: st.jvp(lambda w: g(w, x), (w,), (w,))[1]),
        lambda g: st.functionalize(g),
    ):
        got, want = transform(loaded)(w, x), transform(f)(w, x)
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(st.compile(transform(loaded))(w, x), want, rtol=1e-12, atol=1e-12)
    lanes = np.stack([x, x + 1])
    got = st.compile(st.vmap(st.grad(loaded), in_dims=(None, 0)))(w, lanes)
    np.testing.assert_allclose(got, [st.grad(f)(w, lane) for lane in lanes], rtol=1e-12)


def test_writes_and_aliases_are_those_of_the_function() -> None:
    def f(x: Any, y: Any) -> Any:
        x *= 2
        made = x + y
        return x, x[1:], y.T, made, made[::2]

    loaded = st.import_(st.export(f, "f64[4]", "f64[2,4]").text)
    x, y = np.arange(4.0), np.ones((2, 4))
    got = loaded(x, y)
    np.testing.assert_array_equal(x, [0, 2, 4, 6])
    assert got[0] is x
    assert np.shares_memory(got[1], x)
    assert np.shares_memory(got[2], y)
    assert np.shares_memory(got[3], got[4])
    assert not np.shares_memory(got[3], x)
    gradient = st.grad(lambda x: loaded(x, y)[1].sum())(np.arange(4.0))
    np.testing.assert_array_equal(gradient, [0, 2, 2, 2])


def test_captured_arrays_travel_and_can_be_changed() -> None:
    loaded = st.import_(st.export(shifted, "f64[n,3]").text)
    assert list(loaded.captured) == ["OFFSET"]
    x = np.zeros((2, 3))
    np.testing.assert_array_equal(loaded(x)["moved"], [OFFSET, OFFSET])
    loaded.captured["OFFSET"][0] = 9.0
    np.testing.assert_array_equal(loaded(x)["moved"][0], [9.0, -1.0, 2.0])
    compiled = st.compile(loaded)
    compiled(x)
    loaded.captured["OFFSET"] = np.ones(3)
    np.testing.assert_array_equal(compiled(x)["moved"][0], [1.0, 1.0, 1.0])
    assert "f64[3]{1.0, 1.0, 1.0}" in loaded.text
    assert OFFSET[0] == 0.5


def test_names_defaults_and_keywords() -> None:
    exported = st.export(positives, "f64[n]")
    loaded = st.import_(exported.text)
    assert str(loaded.__signature__) == "(x, scale=2.0, *, mode='sum')"
    assert loaded.__name__ == "positives"
    x = np.array([1.0, -2.0, 3.0])
    assert loaded(x, scale=10.0)[1] == 40.0
    assert loaded(x=x)[1] == 8.0
    with pytest.raises(UnsupportedError, match="was exported with 'sum' as argument leaf 2, not 'all'"):
        loaded(x, mode="all")


def test_sizes() -> None:
    def f(x: Any) -> Any:
        return x * 2 if x.shape[0] > 3 else x

    loaded = st.import_(st.export(f, "f64[n]").text)
    np.testing.assert_array_equal(loaded(np.ones(4)), np.full(4, 2.0))
    with pytest.raises(ShapeError, match="was exported for sizes with 1 <= n-3"):
        loaded(np.ones(3))
    dynamic = st.compile(loaded, dynamic=True)
    for n in (5, 8):
        np.testing.assert_array_equal(dynamic(np.ones(n)), np.full(n, 2.0))


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "classifier.stager"
    st.export(classifier, *FUNCTIONS["classifier"][1]).save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["classifier.stager"]
    for source in (path, str(path)):
        loaded = st.import_(source)
        assert repr(loaded) == "<exported classifier(f64[4,3], f64[3], f64[n,4])>"
    with pytest.raises(FileNotFoundError):
        st.import_(tmp_path / "absent")


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "kit.py").write_text("import numpy as np\ndef f(p, x):\n    return np.tanh(x @ p['w'])\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["export", "kit:f", "--spec", "{'w': f64[3]}", "--spec", "f64[n,3]"]) == 0
    assert capsys.readouterr().out == "f.stager: <exported f(f64[3], f64[n,3])>\n"
    loaded = st.import_("f.stager")
    np.testing.assert_allclose(loaded({"w": np.ones(3)}, np.ones((2, 3))), np.tanh([3.0, 3.0]))


def test_it_builds(tmp_path: Path) -> None:
    loaded = st.import_(st.export(lambda x: np.tanh(x @ OFFSET), "f64[n,3]").text)
    built = st.build({"f": (loaded, ["f64[n,3]"])}, tmp_path, weights="embed")
    if "library" not in built.files:
        pytest.skip("no linker here")
    x = np.ones((4, 3))
    np.testing.assert_allclose(st.load(built.files["library"])(x), np.tanh(x @ OFFSET), rtol=1e-14)


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_calls_that_do_not_fit() -> None:
    loaded = st.import_(st.export(classifier, *FUNCTIONS["classifier"][1]).text)
    params, x = arguments("classifier")
    with pytest.raises(DTypeError, match=r"exported for f64\[n,4\] as array 2, not f32\[5,4\]"):
        loaded(params, x.astype(np.float32))
    with pytest.raises(ShapeError, match=r"exported for f64\[n,4\] as array 2, not f64\[5,3\]"):
        loaded(params, x[:, :3])
    with pytest.raises(UnsupportedError, match="was exported for arguments"):
        loaded([params], x)
    with pytest.raises(TypeError, match="missing a required argument: 'x'"):
        loaded(params)


def test_what_a_text_cannot_hold() -> None:
    with pytest.raises(ExportError, match="cannot hold a object"):
        st.export(lambda x, y: x, "f64[3]", object())

    def called(x: Any) -> Any:
        from stager.array import raw, wrap

        return wrap(callback(raw(x), function=np.sin, results=(raw(x).type,))[0])

    with pytest.raises(ExportError, match="the op callback calls a Python function"):
        st.export(called, "f64[3]")


def test_classes_are_given_not_imported() -> None:
    text = st.export(layers, *FUNCTIONS["layers"][1]).text
    with pytest.raises(ExportError, match=r"uses the class .*Layer: give it as import_\(..., containers=\[Layer\]\)"):
        st.import_(text)

    @dataclasses.dataclass
    class Other:
        w: Any

    Other.__module__, Other.__qualname__ = Layer.__module__, "Layer"
    with pytest.raises(ExportError, match=r"with the fields \('w', 'b'\), the class has \('w',\)"):
        st.import_(text, containers=[Other, Pair])


def resealed(text: str) -> str:
    """The text with the checksum of what it has become."""
    head, _, body = text.split("\n", 2)
    return f"{head}\nsha256 {hashlib.sha256(body.encode()).hexdigest()}\n{body}"


def test_damaged_and_newer_texts() -> None:
    text = st.export(shifted, "f64[n,3]").text
    with pytest.raises(ExportError, match="does not have the checksum"):
        st.import_(text.replace("0.5", "0.6"))
    with pytest.raises(ExportError, match="does not have the checksum"):
        st.import_(text[:-20])
    with pytest.raises(ExportError, match="this is not the text of an exported function, which begins with 'stager ex"):
        st.import_("hello\n" + text)
    with pytest.raises(ExportError, match=f"has export version {EXPORT_VERSION + 1}, this stager reads up to"):
        st.import_(text.replace(f"stager export {EXPORT_VERSION}", f"stager export {EXPORT_VERSION + 1}", 1))
    with pytest.raises(ExportError, match="format version 2 is newer than this stager reads"):
        st.import_(resealed(text.replace("\nstager 1\n", "\nstager 2\n")))
    with pytest.raises(ExportError, match=r"cannot be read: .*conjure"):
        st.import_(resealed(text.replace(" = add ", " = conjure ")))
    with pytest.raises(ExportError, match="is not valid"):
        st.import_(resealed(text.replace("add %0, %2 : f64[n,3]", "add %0, %2 : f32[n,3]")))
    with pytest.raises(ExportError, match="a result does not exist"):
        st.import_(resealed(text.replace('{"value": 0}', '{"value": 7}')))
    with pytest.raises(ExportError, match="is damaged"):
        st.import_(resealed(text.replace('"results": [', '"results": [[', 1)))


def test_no_text_does_more_than_raise(rng: np.random.Generator) -> None:
    """Texts damaged anywhere, with a checksum that fits: ExportError, or a function."""
    texts = [st.export(*[FUNCTIONS[n][0], *FUNCTIONS[n][1]]).text for n in ("shifted", "smooth", "positives")]
    pieces = ['"', "{", "]", "%9", "-1", "n", "(", "99999999999999999999", "null", "\n", " = ", "f64[0]", "region"]
    for k in range(600):
        text = texts[k % len(texts)]
        start = text.index("\n", text.index("\n") + 1) + 1
        at = int(rng.integers(start, len(text)))
        cut = int(rng.integers(0, 4))
        damaged = text[:at] + pieces[k % len(pieces)] + text[at + cut :]
        try:
            st.import_(resealed(damaged))
        except ExportError:
            continue


def test_a_fresh_process_knows_all_ops() -> None:
    """Nothing is imported there but what loading needs."""
    code = """
import sys, pkgutil, importlib, stager as st
for path in sys.argv[1:]:
    assert st.import_(path).text == open(path).read()
from stager.ir.op import OPS
known = set(OPS)
for m in pkgutil.walk_packages(st.__path__, "stager."):
    if not m.name.endswith("__main__"):
        importlib.import_module(m.name)
print(sorted(set(OPS) - known))
"""
    paths = [str(p) for p in stored() if p.stem != "layers"]  # which needs its classes
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


# -- texts of earlier versions -----------------------------------------------------------------------------------------


def stored() -> list[Path]:
    return sorted(STORED.glob("v*/*.stager"))


def test_every_version_has_stored_texts() -> None:
    assert {p.parent.name for p in stored()} == {f"v{n}" for n in range(1, EXPORT_VERSION + 1)}
    for version in range(1, EXPORT_VERSION + 1):
        assert {p.stem for p in stored() if p.parent.name == f"v{version}"} >= set(FUNCTIONS)


@pytest.mark.parametrize("path", stored(), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_stored_texts_load_for_ever(path: Path) -> None:
    loaded = st.import_(path, containers=CONTAINERS)
    assert isinstance(loaded, Exported)
    assert_same(loaded(*arguments(path.stem)), FUNCTIONS[path.stem][0](*arguments(path.stem)))


def test_types_of_any_size_take_no_memory() -> None:
    def f(x: Any) -> Any:
        x[0] += 1.0
        return np.tanh(x).sum(axis=(0, 2, 3))

    exported = st.export(f, "f64[b,3,n,m]")  # 1,000 of each would be 24 GB
    x = np.linspace(0.0, 1.0, 36).reshape(2, 3, 3, 2)
    np.testing.assert_allclose(exported(x.copy()), f(x.copy()))
    assert st.eval_shape(f, "f64[100000,3,100000,1000]").shape == (3,)
