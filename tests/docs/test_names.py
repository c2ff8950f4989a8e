"""docs/names.md: every name that it gives for torch.func or JAX exists, and so does every name of stager's own.

A name stands for itself in one of the modules below, or is written with its path. "the same" is the name in the first
column. Peers that are not installed are not asked.
"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import stager as st

PAGE = (Path(__file__).parents[2] / "docs" / "names.md").read_text(encoding="utf-8")
TABLE = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.partition("## The names")[0].splitlines()
    if line.startswith("| ") and not line.startswith("| stager")
]
HOMES = {
    "torch": ("torch.func", "torch", "torch.autograd", "torch.fx.experimental.proxy_tensor", "torch._higher_order_ops",
              "torch.autograd.forward_ad"),
    "jax": ("jax", "jax.lax", "jax.ad_checkpoint", "jax.extend.core", "jax.core", "jax.custom_batching", "jax.numpy"),
}  # fmt: skip
PRODUCTS = {"AOTInductor"}  # not Python names


def names(cell: str) -> list[str]:
    return re.findall(r"`([\w.]+)`", cell)


def find(path: str, peer: str) -> Any:
    """The object that a name of the page stands for; None when there is none."""
    for home in HOMES[peer]:
        for full in (path, f"{home}.{path}"):
            parts = full.split(".")
            if parts[0] != peer:
                continue
            for k in range(len(parts), 0, -1):
                try:
                    found: Any = importlib.import_module(".".join(parts[:k]))
                except ImportError:
                    continue
                try:
                    for name in parts[k:]:
                        found = getattr(found, name)
                except AttributeError:
                    break
                return found
    return None


@pytest.mark.parametrize("row", TABLE, ids=lambda r: r[0])
@pytest.mark.filterwarnings("ignore")
def test_the_peers_have_these_names(row: list[str]) -> None:
    own, *peers = row[:3]
    for peer, cell in zip(("torch", "jax"), peers, strict=True):
        pytest.importorskip(peer)
        given = [n.removeprefix("random.") for n in names(own)] if cell == "the same" else names(cell)
        missing = [n for n in given if n not in PRODUCTS and find(n, peer) is None]
        assert not missing, f"{peer} has no {', '.join(missing)}"
        assert given or cell in ("–", "AOTInductor"), cell


@pytest.mark.parametrize("row", TABLE, ids=lambda r: r[0])
def test_stager_has_these_names(row: list[str]) -> None:
    module: Any = st
    for name in names(row[0]):
        found: Any = st
        path = name if name.partition(".")[0] in ("random", "testing") or hasattr(st, name) else None
        if path is None:  # after `random.key`: of the same module
            found = module
            path = name
        parts = path.split(".")
        for part in parts[:-1]:
            found = getattr(found, part)
        module = found
        assert hasattr(found, parts[-1]), name


def parameters(f: Any) -> list[str]:
    return list(inspect.signature(f).parameters)


def test_what_the_page_says_of_parameters() -> None:
    assert "randomness" in parameters(st.vmap)
    assert {"in_dims", "out_dims", "in_axes", "out_axes", "randomness", "chunk_size"} <= set(parameters(st.vmap))
    for f in (st.jacfwd, st.jacrev, st.jacobian, st.hessian):
        assert "chunk_size" in parameters(f), f
    for f in (st.grad, st.value_and_grad, st.grad_and_value, st.jacfwd, st.jacrev, st.jacobian, st.hessian):
        assert {"argnums", "has_aux"} <= set(parameters(f)), f


@pytest.mark.filterwarnings("ignore")
def test_parameters_of_torch_func_are_taken() -> None:
    """What a call written for torch.func says by name means the same here; the function itself has no name."""
    func = pytest.importorskip("torch.func")
    for name in ("vmap", "grad", "grad_and_value", "jacfwd", "jacrev", "hessian", "functionalize", "vjp", "jvp"):
        theirs, ours = parameters(getattr(func, name))[1:], parameters(getattr(st, name))[1:]
        missing = [p for p in theirs if p not in ours and p not in TORCHS_OWN]
        assert not missing, (name, missing, ours)


# of autograd's graph, which is not here; jacfwd's lanes are directions, for which random numbers are drawn once
TORCHS_OWN = {"strict", "_preallocate_and_copy", "randomness"}
