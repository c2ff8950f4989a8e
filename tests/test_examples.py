"""The demo's functions against NumPy, and that its two derivative parts arrive where they should."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import stager as st

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # stager looks up the source of functions by their module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    return example("demo")


def test_digits_are_there(demo: ModuleType) -> None:
    x, labels = demo.digits()
    assert x.shape == (1797, 64)
    assert set(labels) == set(range(10))
    assert "CC BY 4.0" in (EXAMPLES / "DATA.md").read_text()


@pytest.mark.parametrize("index", range(9))
def test_demo_rows_agree_with_numpy(demo: ModuleType, index: int) -> None:
    table, _ = demo.rows()
    assert len(table) == 9
    _, fn, args = table[index]
    compiled = st.compile(fn)
    expected = fn(*args)
    demo.check(compiled(*args), expected)
    demo.check(compiled(*args), expected)


def test_training_learns(demo: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    training = example("training")
    monkeypatch.setattr(training, "STEPS", 60)
    x, labels = demo.digits()
    curves, weights, _ = training.train(x, labels, slice(0, 1300))
    for name, curve in curves.items():
        assert curve[0] == pytest.approx(np.log(10.0), abs=0.7)
        assert np.mean(curve[-5:]) < 0.6 * curve[0]
        assert np.mean(training.predict(weights[name], x[1300:]) == labels[1300:]) > 0.7


def test_clipping_is_per_sample() -> None:
    training = example("training")
    rng = np.random.default_rng(0)
    params = tuple([10.0 * p for p in training.start(rng)])
    x, y = rng.standard_normal((3, 64)), np.eye(10)[[1, 2, 3]]
    _, grads = st.compile(training.clipped_gradient)(params, x, y)
    expected = [np.zeros_like(p) for p in params]
    for xi, yi in zip(x, y, strict=True):
        own = st.grad(training.loss)(params, xi, yi)
        norm = np.sqrt(sum(np.sum(g * g) for g in own))
        for total, g in zip(expected, own, strict=True):
            total += g / max(1.0, norm) / 3
    for got, want in zip(grads, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-14)


def test_the_simulation_gradient_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = example("simulation")
    monkeypatch.setattr(simulation, "STEPS", 30)
    rng = np.random.default_rng(0)
    u0 = rng.random((8, 8))
    seen = simulation.plate(u0, simulation.TRUTH, 30)
    at = np.log(np.array([0.05, 0.003]))

    def difference(i: int) -> Any:
        step = 1e-6 * np.eye(2)[i]
        return (simulation.misfit(at + step, u0, seen) - simulation.misfit(at - step, u0, seen)) / 2e-6

    value, gradient = st.compile(st.value_and_grad(simulation.misfit))(at, u0, seen)
    assert value == pytest.approx(simulation.misfit(at, u0, seen), rel=1e-12)
    np.testing.assert_allclose(gradient, [difference(0), difference(1)], rtol=1e-6)
