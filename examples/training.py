"""Two small classifiers for the digits, trained with derivatives of plain NumPy functions.

The first clips every sample's own gradient before averaging (per-sample gradients: `vmap(grad(loss))`). The second is
one NumPy step that updates the caller's weights in place. Pictures: the loss curves, and what is still misread.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

import stager as st

STEPS = 400
BATCH = 64


def loss(params: Any, x: Any, y: Any) -> Any:
    """Softmax cross-entropy of one sample or of a batch; `y` is one-hot."""
    w1, b1, w2, b2 = params
    logits = np.tanh(x @ w1 + b1) @ w2 + b2
    shifted = logits - np.max(logits, axis=-1, keepdims=True)
    logp = shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))
    return -np.mean(np.sum(logp * y, axis=-1))


def clipped_gradient(params: Any, x: Any, y: Any) -> Any:
    """The mean of the samples' gradients, each cut to unit length; and the mean loss."""
    losses, grads = st.vmap(st.value_and_grad(loss), in_dims=(None, 0, 0))(params, x, y)
    square = sum(np.sum(g * g, axis=tuple(range(1, g.ndim))) for g in grads)
    scale = 1.0 / np.maximum(1.0, np.sqrt(square))
    return np.mean(losses), tuple([np.tensordot(scale, g, axes=1) / x.shape[0] for g in grads])


def step_in_place(params: Any, speed: Any, x: Any, y: Any, rate: Any) -> Any:
    """One step of gradient descent with momentum: writes into the arrays it was given."""
    value, grads = st.value_and_grad(loss)(params, x, y)
    for p, v, g in zip(params, speed, grads, strict=True):
        v *= 0.9
        v -= rate * g
        p += v
    return value


def predict(params: Any, x: Any) -> Any:
    w1, b1, w2, b2 = params
    return np.argmax(np.tanh(x @ w1 + b1) @ w2 + b2, axis=1)


def start(rng: np.random.Generator) -> tuple[Any, ...]:
    return rng.standard_normal((64, 32)) / 8, np.zeros(32), rng.standard_normal((32, 10)) / 6, np.zeros(10)


def train(x: Any, labels: Any, known: slice) -> tuple[dict[str, list[float]], dict[str, Any], float]:
    """Loss curves and weights of both, and the seconds that training took."""
    rng = np.random.default_rng(0)
    targets = np.eye(10)[labels]
    batches = [rng.integers(0, known.stop, BATCH) for _ in range(STEPS)]
    curves: dict[str, list[float]] = {"clipped per sample": [], "in place": []}
    gradient = st.compile(clipped_gradient)
    step = st.compile(step_in_place)
    first, second = start(rng), start(rng)
    speed = tuple([np.zeros_like(p) for p in second])
    began = time.perf_counter()
    for rows in batches:
        value, grads = gradient(first, x[rows], targets[rows])
        first = tuple([p - 1.0 * g for p, g in zip(first, grads, strict=True)])
        curves["clipped per sample"].append(float(value))
        curves["in place"].append(float(step(second, speed, x[rows], targets[rows], 0.1)))
    return curves, {"clipped per sample": first, "in place": second}, time.perf_counter() - began


def draw(curves: dict[str, list[float]], x: Any, labels: Any, read: Any, folder: Path) -> None:
    try:
        import matplotlib
    except ImportError:
        print("  no pictures: matplotlib is not installed")
        return
    folder.mkdir(parents=True, exist_ok=True)
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3.5))
    for name, curve in curves.items():
        axis.plot(np.convolve(curve, np.ones(10) / 10, mode="valid"), label=name)
    axis.set(xlabel="step", ylabel="loss (mean of 10 steps)", yscale="log", title="Training on the digits")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(folder / "loss.png", dpi=120)
    plt.close(figure)
    wrong = np.flatnonzero(read != labels)[:16]
    figure, axes = plt.subplots(2, 8, figsize=(8, 2.6))
    for axis, i in zip(axes.flat, wrong, strict=False):
        axis.imshow(x[i].reshape(8, 8), cmap="gray_r")
        axis.set_title(f"{labels[i]} read as {read[i]}", fontsize=7)
    for axis in axes.flat:
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(folder / "misread.png", dpi=120)
    plt.close(figure)


def main(x: Any, labels: Any, folder: Path) -> None:
    known, asked = slice(0, 1300), slice(1300, None)
    curves, weights, seconds = train(x, labels, known)
    print(f"training on the digits, twice {STEPS} steps in {seconds:.1f} s, compilation included:")
    for name, params in weights.items():
        right = np.mean(predict(params, x[asked]) == labels[asked])
        print(f"  {name:20} loss {np.mean(curves[name][-20:]):.3f}, right on {right:.1%} of unseen digits")
    draw(curves, x[asked], labels[asked], predict(weights["in place"], x[asked]), folder)
