"""Derivatives: training steps, per-sample gradients, Hessians, Jacobians, particle forces.

The NumPy peer of every row is a gradient derived by hand; numba has one where a loop is what its users would write.
torch runs `torch.func`, eagerly and compiled; HIPS autograd runs the same NumPy text as stager.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from bench.workload import FirstCall, Function, Inputs, Workload, rebound

Rng = np.random.Generator
DType = np.dtype[Any]


# Multi-layer perceptron with softmax cross-entropy


def mlp_loss(params: Any, x: Any, y: Any) -> Any:
    """`x` (batch, features) or (features,), `y` one-hot."""
    h = x
    for w, b in params[:-1]:
        h = np.tanh(h @ w + b)
    w, b = params[-1]
    logits = h @ w + b
    shifted = logits - np.max(logits, axis=-1, keepdims=True)
    logp = shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))
    return -np.mean(np.sum(logp * y, axis=-1))


def mlp_inputs(widths: tuple[int, ...], batch: int) -> Any:
    def inputs(rng: Rng, n: int, dtype: DType) -> Inputs:
        params = [
            ((rng.standard_normal((i, o)) / np.sqrt(i)).astype(dtype), (0.1 * rng.standard_normal(o)).astype(dtype))
            for i, o in itertools.pairwise(widths)
        ]
        x = rng.standard_normal((batch, widths[0])).astype(dtype)
        return params, x, np.eye(widths[-1], dtype=dtype)[rng.integers(0, widths[-1], batch)]

    return inputs


def _mlp_backward(params: Any, x: Any, y: Any) -> tuple[Any, list[Any], list[Any]]:
    """Loss per row, the layers' inputs, and the cotangents of the layers' outputs per row."""
    hs = [x]
    for w, b in params[:-1]:
        hs.append(np.tanh(hs[-1] @ w + b))
    w, b = params[-1]
    logits = hs[-1] @ w + b
    e = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    p = e / np.sum(e, axis=-1, keepdims=True)
    cts = [p - y]
    for (w, _), h in zip(params[:0:-1], hs[:0:-1], strict=True):
        cts.append((cts[-1] @ w.T) * (1 - h * h))
    return -np.sum(np.log(p) * y, axis=-1), hs, cts[::-1]


def mlp_value_and_grad(params: Any, x: Any, y: Any) -> Any:
    loss, hs, cts = _mlp_backward(params, x, y)
    scale = x.dtype.type(1 / x.shape[0])
    cts = [ct * scale for ct in cts]
    return np.mean(loss), [(h.T @ ct, np.sum(ct, axis=0)) for h, ct in zip(hs, cts, strict=True)]


def mlp_per_sample(params: Any, x: Any, y: Any) -> Any:
    _, hs, cts = _mlp_backward(params, x, y)
    return [(h[:, :, None] * ct[:, None, :], ct) for h, ct in zip(hs, cts, strict=True)]


def _torch_mlp_loss(torch: Any) -> Function:
    def loss(params: Any, x: Any, y: Any) -> Any:
        h = x
        for w, b in params[:-1]:
            h = torch.tanh(h @ w + b)
        w, b = params[-1]
        return -torch.mean(torch.sum(torch.log_softmax(h @ w + b, -1) * y, -1))

    return loss


def _torch_mlp(torch: Any) -> Function:
    both = torch.func.grad_and_value(_torch_mlp_loss(torch))

    def step(params: Any, x: Any, y: Any) -> Any:
        grads, loss = both(params, x, y)
        return loss, grads

    return step


def _mlp_row(name: str, widths: tuple[int, ...], batch: int) -> Workload:
    return Workload(
        name=name, group="gradients", fn=mlp_loss, inputs=mlp_inputs(widths, batch), reference=mlp_value_and_grad,
        stager=lambda st: st.compile(st.value_and_grad(mlp_loss)),
        jax=lambda jax: jax.value_and_grad(rebound(mlp_loss, np=jax.numpy)),
        torch=_torch_mlp, autograd=with_autograd(mlp_loss, "value_and_grad"), sizes=(0,), loose=100.0,
    )  # fmt: skip


# Logistic regression


def logistic_loss(w: Any, x: Any, y: Any) -> Any:
    z = x @ w
    return np.mean(np.logaddexp(0.0, z) - y * z)


def logistic_hessian(w: Any, x: Any, y: Any) -> Any:
    p = 1 / (1 + np.exp(-(x @ w)))
    return (x.T * (p * (1 - p) / x.dtype.type(x.shape[0]))) @ x


def logistic_inputs(rng: Rng, n: int, dtype: DType) -> Inputs:
    x = rng.standard_normal((512, 32)).astype(dtype)
    return (0.1 * rng.standard_normal(32)).astype(dtype), x, rng.integers(0, 2, 512).astype(dtype)


def _torch_logistic(torch: Any) -> Function:
    def loss(w: Any, x: Any, y: Any) -> Any:
        z = x @ w
        return torch.mean(torch.nn.functional.softplus(z) - y * z)

    return torch.func.hessian(loss)


# Forward mode through an elementwise chain and a reduction


def wave_energy(x: Any) -> Any:
    y = np.sin(x) * np.exp(-0.1 * x * x) + np.tanh(0.5 * x)
    return np.sum(y * y)


def wave_jvp_by_hand(x: Any, t: Any) -> Any:
    e, s, th = np.exp(-0.1 * x * x), np.sin(x), np.tanh(0.5 * x)
    y = s * e + th
    dy = np.cos(x) * e - 0.2 * x * s * e + 0.5 * (1 - th * th)
    return np.sum(y * y), np.sum(2 * y * dy * t)


def _torch_wave(torch: Any) -> Function:
    def energy(x: Any) -> Any:
        y = torch.sin(x) * torch.exp(-0.1 * x * x) + torch.tanh(0.5 * x)
        return torch.sum(y * y)

    return lambda x, t: torch.func.jvp(energy, (x,), (t,))


def _numba_wave(jit: Any, prange: Any) -> Function:
    @jit.reassoc
    def wave_jvp(x: Any, t: Any) -> Any:
        f = x.dtype.type
        value, slope = f(0), f(0)
        for i in prange(x.size):
            v = x[i]
            e, s, th = np.exp(f(-0.1) * v * v), np.sin(v), np.tanh(f(0.5) * v)
            y = s * e + th
            dy = np.cos(v) * e - f(0.2) * v * s * e + f(0.5) * (f(1) - th * th)
            value += y * y
            slope += f(2) * y * dy * t[i]
        return value, slope

    return wave_jvp


# Lennard-Jones energy


def lennard_jones(x: Any) -> Any:
    """Energy of all pairs; x is (atoms, 3)."""
    d = x[:, None, :] - x[None, :, :]
    r2 = np.sum(d * d, axis=-1) + np.eye(x.shape[0], dtype=x.dtype)
    s6 = 1.0 / (r2 * r2 * r2)
    pair = s6 * s6 - s6
    return 2.0 * np.sum(pair - pair * np.eye(x.shape[0], dtype=x.dtype))


def lennard_jones_gradient(x: Any) -> Any:
    d = x[:, None, :] - x[None, :, :]
    r2 = np.sum(d * d, axis=-1)
    np.fill_diagonal(r2, 1)
    s6 = 1 / (r2 * r2 * r2)
    f = -24 * (2 * s6 * s6 - s6) / r2
    np.fill_diagonal(f, 0)
    return np.sum(d * f[:, :, None], axis=1)


def lennard_jones_gradients(xs: Any) -> Any:
    return np.stack([lennard_jones_gradient(x) for x in xs])


def atoms(configurations: int | None) -> Any:
    def inputs(rng: Rng, n: int, dtype: DType) -> Inputs:
        lattice = 1.1 * np.stack(np.meshgrid(*[np.arange(4.0)] * 3), -1).reshape(64, 3)
        shape = (64, 3) if configurations is None else (configurations, 64, 3)
        return ((lattice + 0.05 * rng.standard_normal(shape)).astype(dtype),)

    return inputs


def _torch_lennard_jones(torch: Any) -> Function:
    def energy(x: Any) -> Any:
        d = x[:, None, :] - x[None, :, :]
        eye = torch.eye(x.shape[0], dtype=x.dtype)
        r2 = torch.sum(d * d, -1) + eye
        s6 = 1.0 / (r2 * r2 * r2)
        return 2.0 * torch.sum((s6 * s6 - s6) * (1 - eye))

    return energy


def _numba_lj_loops(jit: Any, prange: Any) -> Any:
    @jit.reassoc
    def gradients(xs: Any) -> Any:
        f = xs.dtype.type
        out = np.zeros_like(xs)
        n = xs.shape[1]
        for c in prange(xs.shape[0]):
            for i in range(n):
                for j in range(i + 1, n):
                    dx, dy, dz = xs[c, i, 0] - xs[c, j, 0], xs[c, i, 1] - xs[c, j, 1], xs[c, i, 2] - xs[c, j, 2]
                    r2 = dx * dx + dy * dy + dz * dz
                    s6 = f(1) / (r2 * r2 * r2)
                    g = f(-24) * (f(2) * s6 * s6 - s6) / r2
                    out[c, i, 0] += g * dx
                    out[c, i, 1] += g * dy
                    out[c, i, 2] += g * dz
                    out[c, j, 0] -= g * dx
                    out[c, j, 1] -= g * dy
                    out[c, j, 2] -= g * dz
        return out

    return gradients


def _numba_lj_one(jit: Any, prange: Any) -> Function:
    loops = _numba_lj_loops(jit, range)

    @jit
    def gradient(x: Any) -> Any:
        return loops(np.expand_dims(x, 0))[0]

    return gradient


# Attention, layernorm, embedding


def attention_loss(q: Any, k: Any, v: Any) -> Any:
    scores = q @ np.swapaxes(k, -1, -2) / q.shape[-1] ** 0.5
    e = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    out = (e / np.sum(e, axis=-1, keepdims=True)) @ v
    return np.sum(out * out)


def attention_gradient(q: Any, k: Any, v: Any) -> Any:
    scale = q.dtype.type(1 / np.sqrt(q.shape[-1]))
    scores = (q @ np.swapaxes(k, -1, -2)) * scale
    e = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    p = e / np.sum(e, axis=-1, keepdims=True)
    ct = 2 * (p @ v)
    dp = ct @ np.swapaxes(v, -1, -2)
    ds = p * (dp - np.sum(dp * p, axis=-1, keepdims=True)) * scale
    return ds @ k, np.swapaxes(ds, -1, -2) @ q, np.swapaxes(p, -1, -2) @ ct


def heads(rng: Rng, n: int, dtype: DType) -> Inputs:
    return tuple(rng.standard_normal((8, 128, 64)).astype(dtype) for _ in range(3))


def _torch_attention(torch: Any) -> Function:
    def loss(q: Any, k: Any, v: Any) -> Any:
        p = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1)
        return torch.sum((p @ v) ** 2)

    return torch.func.grad(loss, argnums=(0, 1, 2))


def layernorm_loss(x: Any, g: Any, b: Any, target: Any) -> Any:
    mean = np.mean(x, axis=-1, keepdims=True)
    centred = x - mean
    variance = np.mean(centred * centred, axis=-1, keepdims=True)
    return np.sum((centred / np.sqrt(variance + 1e-5) * g + b) * target)


def layernorm_gradient(x: Any, g: Any, b: Any, target: Any) -> Any:
    centred = x - np.mean(x, axis=-1, keepdims=True)
    scale = 1 / np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + 1e-5)
    z = centred * scale
    ct = target * g
    dx = scale * (ct - np.mean(ct, axis=-1, keepdims=True) - z * np.mean(ct * z, axis=-1, keepdims=True))
    return dx, np.sum(target * z, axis=0), np.sum(target, axis=0)


def layernorm_inputs(rng: Rng, n: int, dtype: DType) -> Inputs:
    shapes = ((512, 768), (768,), (768,), (512, 768))
    return tuple(rng.standard_normal(s).astype(dtype) for s in shapes)


def _torch_layernorm(torch: Any) -> Function:
    def loss(x: Any, g: Any, b: Any, target: Any) -> Any:
        return torch.sum(torch.nn.functional.layer_norm(x, (x.shape[-1],), g, b, 1e-5) * target)

    return torch.func.grad(loss, argnums=(0, 1, 2))


def _numba_layernorm(jit: Any, prange: Any) -> Function:
    @jit.reassoc
    def gradient(x: Any, g: Any, b: Any, target: Any) -> Any:
        f = x.dtype.type
        rows, width = x.shape
        dx, dg, db = np.empty_like(x), np.zeros_like(g), np.zeros_like(b)
        for i in range(rows):
            total = f(0)
            for j in range(width):
                total += x[i, j]
            mean = total / f(width)
            square = f(0)
            for j in range(width):
                square += (x[i, j] - mean) * (x[i, j] - mean)
            scale = f(1) / np.sqrt(square / f(width) + f(1e-5))
            first, second = f(0), f(0)
            for j in range(width):
                z = (x[i, j] - mean) * scale
                ct = target[i, j] * g[j]
                first += ct
                second += ct * z
                dg[j] += target[i, j] * z
                db[j] += target[i, j]
            first, second = first / f(width), second / f(width)
            for j in range(width):
                dx[i, j] = scale * (target[i, j] * g[j] - first - (x[i, j] - mean) * scale * second)
        return dx, dg, db

    return gradient


def embedding_loss(table: Any, words: Any, w: Any) -> Any:
    rows = table[words]
    return np.sum(np.tanh(rows) * w)


def embedding_gradient(table: Any, words: Any, w: Any) -> Any:
    th = np.tanh(table[words])
    out = np.zeros_like(table)
    np.add.at(out, words, (1 - th * th) * w)
    return out


def embedding_inputs(rng: Rng, n: int, dtype: DType) -> Inputs:
    table, w = rng.standard_normal((5000, 64)).astype(dtype), rng.standard_normal(64).astype(dtype)
    return table, rng.integers(0, 5000, 2048), w


def _torch_embedding(torch: Any) -> Function:
    return torch.func.grad(lambda table, words, w: torch.sum(torch.tanh(table[words]) * w))


def _numba_embedding(jit: Any, prange: Any) -> Function:
    @jit
    def gradient(table: Any, words: Any, w: Any) -> Any:
        one = table.dtype.type(1)
        out = np.zeros_like(table)
        for i in range(words.size):
            for j in range(w.size):
                th = np.tanh(table[words[i], j])
                out[words[i], j] += (one - th * th) * w[j]
        return out

    return gradient


# A chain of twenty joints: positions of the tip


def arm(angles: Any) -> Any:
    total = np.cumsum(angles)
    return np.stack([np.sum(np.cos(total)), np.sum(np.sin(total)), np.sum(np.cos(total) * np.sin(0.5 * angles))])


def arm_jacobian(angles: Any) -> Any:
    total = np.cumsum(angles)
    c, s = np.cos(total), np.sin(total)
    h = np.sin(0.5 * angles)

    def tail(v: Any) -> Any:
        return np.cumsum(v[::-1])[::-1]

    return np.stack([-tail(s), tail(c), -tail(s * h) + 0.5 * c * np.cos(0.5 * angles)])


def _torch_arm(torch: Any) -> Function:
    def tip(angles: Any) -> Any:
        total = torch.cumsum(angles, 0)
        c = torch.cos(total)
        return torch.stack([torch.sum(c), torch.sum(torch.sin(total)), torch.sum(c * torch.sin(0.5 * angles))])

    return torch.func.jacrev(tip)


def _numba_arm(jit: Any, prange: Any) -> Function:
    @jit
    def jacobian(angles: Any) -> Any:
        f = angles.dtype.type
        n = angles.size
        out = np.empty((3, n), angles.dtype)
        total = np.cumsum(angles)
        x, y, z = f(0), f(0), f(0)
        for i in range(n - 1, -1, -1):
            c, s = np.cos(total[i]), np.sin(total[i])
            h = np.sin(f(0.5) * angles[i])
            x, y, z = x - s, y + c, z - s * h
            out[0, i], out[1, i], out[2, i] = x, y, z + f(0.5) * c * np.cos(f(0.5) * angles[i])
        return out

    return jacobian


def _make_mlp_loss(salt: int) -> Function:
    scale = 1.0 + 1e-3 * salt

    def loss(params: Any, x: Any, y: Any) -> Any:
        h = x * scale
        for w, b in params[:-1]:
            h = np.tanh(h @ w + b)
        w, b = params[-1]
        logits = h @ w + b
        return np.log(np.sum(np.exp(logits))) - np.sum(logits * y)

    return loss


def _trace_inputs(rng: Rng) -> Inputs:
    inputs: Inputs = mlp_inputs((784, 512, 512, 10), 128)(rng, 0, np.dtype("float64"))
    return inputs


def with_autograd(fn: Function, transform: str, **options: Any) -> Any:
    """`fn` on autograd's own NumPy, under one of its transforms."""

    def build(autograd: Any) -> Function:
        import autograd.numpy as anp

        made: Function = getattr(autograd, transform)(rebound(fn, np=anp), **options)
        return made

    return build


def _row(name: str, **fields: Any) -> Workload:
    return Workload(name=name, group="gradients", sizes=(0,), **{"loose": 100.0, **fields})


WORKLOADS = (
    _mlp_row("value_and_grad MLP 784-512-512-10", (784, 512, 512, 10), 128),
    _mlp_row("value_and_grad MLP 64-64-10", (64, 64, 10), 32),
    _row(
        "per-sample gradients MLP 64-64-10", fn=mlp_loss, inputs=mlp_inputs((64, 64, 10), 128),
        reference=mlp_per_sample,
        stager=lambda st: st.compile(st.vmap(st.grad(mlp_loss), in_dims=(None, 0, 0))),
        jax=lambda jax: jax.vmap(jax.grad(rebound(mlp_loss, np=jax.numpy)), in_axes=(None, 0, 0)),
        torch=lambda torch: torch.func.vmap(torch.func.grad(_torch_mlp_loss(torch)), in_dims=(None, 0, 0)),
    ),
    _row(
        "Hessian of logistic regression", fn=logistic_loss, inputs=logistic_inputs, reference=logistic_hessian,
        stager=lambda st: st.compile(st.hessian(logistic_loss)),
        jax=lambda jax: jax.hessian(rebound(logistic_loss, np=jax.numpy)),
        torch=_torch_logistic, autograd=with_autograd(logistic_loss, "hessian"),
    ),
    _row(
        "jvp of a chain", fn=wave_energy, reference=wave_jvp_by_hand, numba=_numba_wave, torch=_torch_wave,
        inputs=lambda rng, n, dtype: tuple(rng.standard_normal(100_000).astype(dtype) for _ in range(2)),
        stager=lambda st: st.compile(lambda x, t: st.jvp(wave_energy, (x,), (t,))),
        jax=lambda jax: lambda x, t: jax.jvp(rebound(wave_energy, np=jax.numpy), (x,), (t,)),
    ),
    _row(
        "Lennard-Jones gradient", fn=lennard_jones, inputs=atoms(None), reference=lennard_jones_gradient,
        stager=lambda st: st.compile(st.grad(lennard_jones)),
        jax=lambda jax: jax.grad(rebound(lennard_jones, np=jax.numpy)),
        torch=lambda torch: torch.func.grad(_torch_lennard_jones(torch)),
        autograd=with_autograd(lennard_jones, "grad"), numba=_numba_lj_one,
    ),
    _row(
        "Lennard-Jones gradient, 32 configurations", fn=lennard_jones, inputs=atoms(32),
        reference=lennard_jones_gradients, stager=lambda st: st.compile(st.vmap(st.grad(lennard_jones))),
        jax=lambda jax: jax.vmap(jax.grad(rebound(lennard_jones, np=jax.numpy))),
        torch=lambda torch: torch.func.vmap(torch.func.grad(_torch_lennard_jones(torch))), numba=_numba_lj_loops,
    ),
    _row(
        "attention gradient", fn=attention_loss, inputs=heads, reference=attention_gradient,
        stager=lambda st: st.compile(st.grad(attention_loss, argnums=(0, 1, 2))),
        jax=lambda jax: jax.grad(rebound(attention_loss, np=jax.numpy), argnums=(0, 1, 2)),
        torch=_torch_attention, autograd=with_autograd(attention_loss, "grad", argnum=(0, 1, 2)),
    ),
    _row(
        "layernorm gradient", fn=layernorm_loss, inputs=layernorm_inputs, reference=layernorm_gradient,
        stager=lambda st: st.compile(st.grad(layernorm_loss, argnums=(0, 1, 2))),
        jax=lambda jax: jax.grad(rebound(layernorm_loss, np=jax.numpy), argnums=(0, 1, 2)),
        torch=_torch_layernorm, autograd=with_autograd(layernorm_loss, "grad", argnum=(0, 1, 2)),
        numba=_numba_layernorm,
    ),
    _row(
        "embedding gradient", fn=embedding_loss, inputs=embedding_inputs, reference=embedding_gradient,
        stager=lambda st: st.compile(st.grad(embedding_loss)),
        jax=lambda jax: jax.grad(rebound(embedding_loss, np=jax.numpy)),
        torch=_torch_embedding, autograd=with_autograd(embedding_loss, "grad"), numba=_numba_embedding,
    ),
    _row(
        "Jacobian of an arm", fn=arm, reference=arm_jacobian, numba=_numba_arm,
        inputs=lambda rng, n, dtype: (rng.uniform(-1.0, 1.0, 20).astype(dtype),),
        stager=lambda st: st.compile(st.jacrev(arm)),
        jax=lambda jax: jax.jacrev(rebound(arm, np=jax.numpy)),
        torch=_torch_arm,
    ),
    FirstCall(
        name="trace vmap(grad(MLP))", group="first calls", make=_make_mlp_loss, inputs=_trace_inputs,
        bars={"jax": 0.5}, transform="vmap_grad",
    ),
)  # fmt: skip
