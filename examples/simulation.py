"""A simulation differentiated end to end: diffusivity and decay of a plate, found from one late picture of it.

The simulation is a thousand time steps of a stencil that NumPy writes in place. Reverse mode goes through all of them,
at a cost that does not grow with the number of parameters. Pictures: the fields, and how the fit went.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

import stager as st

STEPS = 1000
SIDE = 48
TRUTH = np.array([0.12, 0.0008])


def plate(u0: Any, theta: Any, steps: Any) -> Any:
    """Heat spreads with theta[0] and leaks with theta[1]; borders are held."""
    u = u0.copy()
    for _ in range(steps):
        flow = u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4.0 * u[1:-1, 1:-1]
        u[1:-1, 1:-1] += theta[0] * flow - theta[1] * u[1:-1, 1:-1]
    return u


def misfit(log_theta: Any, u0: Any, seen: Any) -> Any:
    difference = plate(u0, np.exp(log_theta), STEPS) - seen
    return np.mean(difference * difference)


def fit(u0: Any, seen: Any) -> tuple[Any, list[tuple[float, Any]]]:
    """Quasi-Newton on the logarithms of the parameters, from a guess that is off by factors."""
    both = st.compile(st.value_and_grad(misfit))
    p = np.log(np.array([0.05, 0.003]))
    inverse = np.eye(2)
    value, gradient = both(p, u0, seen)
    inverse *= 0.3 / np.sqrt(gradient @ gradient)
    history = [(float(value), np.exp(p))]
    for _ in range(40):
        way = -inverse @ gradient
        length = 1.0
        while True:
            new = p + length * way
            new_value, new_gradient = both(new, u0, seen)
            if new_value < value or length < 1e-6:
                break
            length *= 0.3
        s, y = new - p, new_gradient - gradient
        if s @ y > 1e-14:  # BFGS
            rho = 1.0 / (s @ y)
            left = np.eye(2) - rho * np.outer(s, y)
            inverse = left @ inverse @ left.T + rho * np.outer(s, s)
        p, value, gradient = new, new_value, new_gradient
        history.append((float(value), np.exp(p)))
        if np.sqrt(gradient @ gradient) < 1e-9 or length < 1e-6:
            break
    return np.exp(p), history


def draw(u0: Any, seen: Any, found: Any, history: list[tuple[float, Any]], folder: Path) -> None:
    try:
        import matplotlib
    except ImportError:
        print("  no pictures: matplotlib is not installed")
        return
    folder.mkdir(parents=True, exist_ok=True)
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(9, 3.2))
    for axis, field, title in zip(axes, (u0, seen, plate(u0, found, STEPS)), ("start", "seen", "fitted"), strict=True):
        shown = axis.imshow(field, cmap="inferno")
        axis.set_title(title)
        axis.axis("off")
        figure.colorbar(shown, ax=axis, shrink=0.75)
    figure.tight_layout()
    figure.savefig(folder / "plate.png", dpi=120)
    plt.close(figure)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    left.semilogy([v for v, _ in history], "o-", markersize=3)
    left.set(xlabel="step", ylabel="misfit", title="The fit")
    for i, name in enumerate(("diffusivity", "decay")):
        right.semilogy([theta[i] / TRUTH[i] for _, theta in history], "o-", markersize=3, label=name)
    right.axhline(1.0, color="0.6", linewidth=0.8)
    right.set(xlabel="step", title="parameter / truth")
    right.legend(frameon=False)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(folder / "fit.png", dpi=120)
    plt.close(figure)


def main(folder: Path) -> None:
    rng = np.random.default_rng(0)
    u0 = np.zeros((SIDE, SIDE))
    for _ in range(6):
        i, j = rng.integers(6, SIDE - 6, 2)
        u0[i - 4 : i + 4, j - 4 : j + 4] += rng.uniform(0.5, 1.5)
    seen = plate(u0, TRUTH, STEPS) + 1e-4 * rng.standard_normal(u0.shape)
    began = time.perf_counter()
    found, history = fit(u0, seen)
    seconds = time.perf_counter() - began
    print(f"a plate through {STEPS} time steps, differentiated end to end, {len(history)} steps in {seconds:.1f} s:")
    print(f"  diffusivity {found[0]:.4f} (truth {TRUTH[0]}), decay {found[1]:.5f} (truth {TRUTH[1]})")
    draw(u0, seen, found, history, folder)
