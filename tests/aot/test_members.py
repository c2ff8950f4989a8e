"""What goes into a library: transforms beside a function, programs with control flow, files that list functions."""

from __future__ import annotations

import ctypes
import sys

import numpy as np
import pytest

import stager as st
from stager.__main__ import main
from stager.aot.build import Member
from stager.aot.errors import BuildError
from stager.runtime.structure import flatten
from tests.aot.calling import call, needs_cc

pytestmark = needs_cc


def loss(w, x):
    return (np.tanh(x @ w["a"] + w["b"]) ** 2).sum()


def energy(x, k):
    return (x[1:] * x[:-1]).sum() + x[k]


def newton(a):
    x = a * 0.5 + 0.5
    while np.abs(x * x - a).max() > 1e-12:
        x = 0.5 * (x + a / x)
    return x


def gauss_seidel(u, f):
    for i in range(1, u.shape[0] - 1):
        for j in range(1, u.shape[1] - 1):
            u[i, j] = 0.25 * (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1] - f[i, j])


def classify(x):
    if x.sum() > 0:
        return np.sqrt(np.abs(x)), (x > 0).sum()
    return x * 2, (x < 0).sum()


def table(x):
    return {"unique": np.unique(x), "moments": [x.mean(), x.std()]}


KINDS = ("grad", "value_and_grad", "jacfwd", "jacrev", "hessian", "vmap", "vjp", "jvp")


@pytest.fixture(scope="module")
def transforms(tmp_path_factory):
    specs = [{"a": "f64[3]", "b": "f64[]"}, "f64[n,3]"]
    member = Member(loss, specs, KINDS, in_dims=(None, 0))
    flat = Member(energy, ["f64[5]", "i64[]"], ("grad", "jvp", "vjp", "vmap"), in_dims=(0, 0))
    return st.build({"loss": member, "energy": flat}, tmp_path_factory.mktemp("members"))


def same(got, want):
    got, want = flatten(got), flatten(want)
    assert got[1] == want[1]
    for g, w in zip(got[0], want[0], strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-10, atol=1e-13)


def test_transforms_stand_beside_the_function(transforms):
    rng = np.random.default_rng(1)
    w, x = {"a": rng.normal(size=3), "b": np.array(0.3)}, rng.normal(size=(4, 3))
    assert transforms.functions[:9] == ("loss", *[f"loss_{k}" for k in KINDS])

    def f(kind):
        return st.load(transforms.files["library"], f"loss_{kind}")

    same(st.load(transforms.files["library"], "loss")(w, x), loss(w, x))
    for kind in ("grad", "value_and_grad", "jacfwd", "jacrev", "hessian"):
        same(f(kind)(w, x), getattr(st, kind)(loss)(w, x))
    xs = rng.normal(size=(6, 4, 3))
    same(f("vmap")(w, xs), np.array([loss(w, x) for x in xs]))
    ct = np.array(1.7)
    same(f("vjp")(w, x, ct), st.vjp(loss, w, x)[1](ct))
    tw, tx = {"a": rng.normal(size=3), "b": np.array(1.0)}, rng.normal(size=(4, 3))
    same(f("jvp")(w, x, tw, tx), st.jvp(loss, (w, x), (tw, tx)))


def test_integers_are_not_differentiated(transforms):
    def f(kind):
        return st.load(transforms.files["library"], f"energy_{kind}")

    x, k, t = np.arange(5.0), np.array(2), np.linspace(0, 1, 5)
    want = st.grad(energy)(x, k)
    same(f("grad")(x, k), want)
    same(f("vjp")(x, k, np.array(1.0)), want)
    same(f("jvp")(x, k, t), (energy(x, k), want @ t))
    xs, ks = np.stack([x, t]), np.array([1, 4])
    same(f("vmap")(xs, ks), np.array([energy(a, b) for a, b in zip(xs, ks, strict=True)]))


def test_cotangents_of_results_with_derived_sizes(tmp_path):
    def f(x, y):
        return np.concatenate([x * x, y, x])[1:], np.outer(x, y).ravel(), np.diff(x)

    member = Member(f, ["f64[n]", "f64[m]"], ("vjp",))
    pull = st.load(st.build({"f": member}, tmp_path).files["library"], "f_vjp")
    rng = np.random.default_rng(3)
    for n, m in ((5, 2), (1, 3)):
        x, y = rng.normal(size=n), rng.normal(size=m)
        cts = tuple([rng.normal(size=r.shape) for r in f(x, y)])
        for got, want in zip(pull(x, y, cts), st.vjp(f, x, y)[1](cts), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12)
        with pytest.raises(TypeError, match=r"takes \(x: f64\[n\], y: f64\[m\], ct_0: "):
            pull(x, y, (cts[0][1:], *cts[1:]))


def test_unknown_transforms_are_refused(tmp_path):
    with pytest.raises(BuildError, match="'twice' is no transform; known are grad"):
        st.build({"f": Member(newton, ["f64[3]"], ("twice",))}, tmp_path)
    with pytest.raises(BuildError, match="nothing to differentiate"):
        st.build({"f": Member(lambda i: i + 1, ["i64[3]"], ("vjp",))}, tmp_path)


def test_programs_with_loops_and_branches(tmp_path):
    members = {
        "newton": Member(newton, ["f64[n]"], ("vjp",)), "gauss_seidel": (gauss_seidel, ["f64[n,m]", "f64[n,m]"]),
        "classify": (classify, ["f64[n]"]), "table": (table, ["f64[n]"]),
    }  # fmt: skip
    built = st.build(members, tmp_path, name="programs")

    def f(name):
        return st.load(built.files["library"], name)

    rng = np.random.default_rng(2)
    a = rng.uniform(0.5, 9, size=7)
    np.testing.assert_allclose(f("newton")(a), np.sqrt(a), rtol=1e-9)
    many = rng.uniform(0.5, 9, size=3000)  # tapes of a library grow too
    (back,) = st.vjp(newton, many)[1](np.ones(3000))
    same(f("newton_vjp")(many, np.ones(3000)), back)
    u, rhs = rng.normal(size=(6, 8)), rng.normal(size=(6, 8))
    want = u.copy()
    gauss_seidel(want, rhs)
    f("gauss_seidel")(u, rhs)
    np.testing.assert_allclose(u, want, rtol=1e-12)
    for x in (a, -a):
        same(f("classify")(x), classify(x))
    x = rng.integers(0, 5, size=20).astype(float)
    same(f("table")(x), table(x))


def test_names_are_those_of_c(tmp_path):
    def f(double, n, call):
        return double + n + call["a b"] + call["a_b"]

    built = st.build({"f": (f, ["f64[n]", "f64[n]", {"a b": "f64[n]", "a_b": "f64[n]"}])}, tmp_path)
    header = built.files["header"].read_text()
    for name in ("double_", "n_", "call_a_b", "call_a_b_"):
        assert f"const double *{name}," in header
    x = np.ones(3)
    np.testing.assert_array_equal(st.load(built.files["library"])(x, x, {"a b": x, "a_b": x}), x * 4)
    for name in ("double", "9f", "class", "stager_f", "f-g", "é"):
        with pytest.raises(BuildError, match="no name for a C function"):
            st.build({name: (f, ["f64[n]"] * 3)}, tmp_path)


MODULE = """
import numpy as np
table = np.arange(3.0)
def f(x):
    return (np.sin(x) ** 2).sum()
class scale:
    @staticmethod
    def by(x, w):
        return x * w + table
"""
MANIFEST = """
name = "kit"
static = true
emit = ["llvm", "mlir"]
[[function]]
function = "kit_functions:f"
specs = ["f64[n]"]
with = ["grad", "vmap"]
[[function]]
function = "kit_functions:scale.by"
name = "scaled"
specs = ["f64[n,3]", "f64[3]"]
strided = true
with = ["vmap"]
in_dims = "(0, None)"
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "kit_functions", raising=False)
    (tmp_path / "kit_functions.py").write_text(MODULE)
    (tmp_path / "kit.toml").write_text(MANIFEST)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_lists_functions(toy, capsys):
    assert main(["build", "kit.toml", "-o", "made"]) == 0
    assert {p.name for p in (toy / "made").iterdir()} == {
        "kit.o", "kit.h", "libkit.so", "libkit.a", "kit.ll", "kit.mlir"
    }  # fmt: skip
    out, progress = capsys.readouterr()
    assert "scaled: 3 inputs, 1 results, sizes n, 1 kernel for 3 layouts, workspace 0 bytes" in out
    assert "f_grad" in out
    assert "stager: compiling scaled_vmap" in progress
    library = ctypes.CDLL(str(toy / "made" / "libkit.so"))
    x, w, t, result = np.ones((2, 2, 3)), np.arange(3.0), np.arange(3.0), np.zeros((2, 2, 3))
    assert call(library, "scaled_vmap", x, None, w, None, t, None, result, 2, 2) == 0
    np.testing.assert_array_equal(result, x * w + t)
    assert (toy / "made" / "kit.mlir").read_text().count("func.func") == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("specs =", "spec ="), "unknown key 'spec'; known are function"),
        (('name = "kit"', "nam = 3"), "unknown key 'nam'"),
        (("static = true", "static = 3"), "static of the library cannot be 3"),
        (('"kit_functions:f"', '"kit_functions:g"'), "module 'kit_functions' has no 'g'"),
        (('"(0, None)"', '"0, None("'), "in_dims is a Python literal"),
        (('name = "scaled"', 'name = "f"'), "two functions are called 'f'"),
        (('name = "scaled"', 'name = "f_grad"'), "f_grad and f_grad both export"),
        (("[[function]]", "[[functions]]"), "lists no"),
        (("[[function]]", "[[function"), "kit.toml"),
        (('emit = ["llvm", "mlir"]', 'emit = ["exe"]'), "emit knows llvm, asm, mlir, not exe"),
    ],
)
def test_mistakes_in_the_file_are_named(toy, capsys, change, message):
    (toy / "kit.toml").write_text(MANIFEST.replace(*change))
    try:
        assert main(["build", "kit.toml", "-o", "made"]) == 1
        said = capsys.readouterr().err
    except SystemExit as e:
        said = str(e)
    assert message in said


def test_options_of_the_command(toy, capsys):
    command = ["build", "kit_functions:scale.by", "--name", "by", "--spec", "f64[n,3]", "--spec", "f64[3]",
               "-o", "made", "--weights", "embed", "--no-threads",
               "--with", "grad,vmap", "--in-dims", "(0, None)"]  # fmt: skip
    assert main([*command, "--argnums", "1"]) == 1  # the result is no scalar
    assert "scalar" in capsys.readouterr().err
    command[command.index("grad,vmap")] = "vmap,jacrev"
    assert main([*command, "--argnums", "(0, 1)"]) == 0
    assert "threads" not in capsys.readouterr().out
    header = (toy / "made" / "by.h").read_text()
    assert "starts no threads" in header
    assert "set_threads" not in header
    library = ctypes.CDLL(str(toy / "made" / "libby.so"))
    x, w, result = np.ones((2, 3)), np.arange(3.0), np.zeros((2, 3))
    assert call(library, "by", x, w, result, 2) == 0
    np.testing.assert_array_equal(result, x * w + np.arange(3.0))
