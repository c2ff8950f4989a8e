"""What derivatives compile to: nodes and kernels are counted, whole functions as users write them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.codegen.program import Nest, Routine
from stager.ir.graph import Graph, Node
from stager.pipeline import generate, optimize
from stager.transforms.shapes import trace_types

Function = Callable[..., Any]
VIEWS = ("reshape", "transpose", "broadcast", "slice")


def optimized(f: Function, *specs: str) -> Graph:
    return optimize(trace_types(f, specs, {}).graph)


def count(graph: Graph) -> Counter[str]:
    return Counter(n.op.name for n in graph.nodes)


def steps(f: Function, *specs: str) -> list[Any]:
    return list(generate(optimized(f, *specs)).program.steps)


def literal(node: Node, value: float) -> bool:
    return node.op.name == "fill" and node.params["value"] == value


def mlp(w1: Any, b1: Any, w2: Any, b2: Any, x: Any, y: Any) -> Any:
    h = np.tanh(x @ w1 + b1)
    logits = h @ w2 + b2
    shifted = logits - np.max(logits, axis=-1, keepdims=True)
    logp = shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))
    return -np.mean(np.sum(logp * y, axis=-1))


MLP = ("f64[64,48]", "f64[48]", "f64[48,10]", "f64[10]")
ROWS = ("f64[32,64]", "f64[32,10]")


def attention(q: Any, k: Any, v: Any) -> Any:
    scores = q @ np.swapaxes(k, -1, -2) / q.shape[-1] ** 0.5
    e = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    return np.sum(((e / np.sum(e, axis=-1, keepdims=True)) @ v) ** 2)


def layernorm(x: Any, g: Any, b: Any, t: Any) -> Any:
    c = x - np.mean(x, axis=-1, keepdims=True)
    return np.sum((c / np.sqrt(np.mean(c * c, axis=-1, keepdims=True) + 1e-5) * g + b) * t)


def logistic(w: Any, x: Any, y: Any) -> Any:
    z = x @ w
    return np.mean(np.logaddexp(0.0, z) - y * z)


def embedding(table: Any, words: Any, w: Any) -> Any:
    return np.sum(np.tanh(table[words]) * w)


def lennard_jones(x: Any) -> Any:
    d = x[:, None, :] - x[None, :, :]
    eye = np.eye(x.shape[0], dtype=x.dtype)
    s6 = 1.0 / (np.sum(d * d, axis=-1) + eye) ** 3
    return 2.0 * np.sum((s6 * s6 - s6) * (1 - eye))


GRADIENTS: dict[str, tuple[Function, tuple[str, ...]]] = {
    "mlp": (st.value_and_grad(mlp, argnums=(0, 1, 2, 3)), (*MLP, *ROWS)),
    "mlp per sample": (
        st.vmap(st.grad(mlp, argnums=(0, 1, 2, 3)), in_dims=(None, None, None, None, 0, 0)),
        (*MLP, *ROWS),
    ),
    "attention": (st.grad(attention, argnums=(0, 1, 2)), ("f64[4,64,32]",) * 3),
    "layernorm": (st.grad(layernorm, argnums=(0, 1, 2)), ("f64[64,96]", "f64[96]", "f64[96]", "f64[64,96]")),
    "hessian": (st.hessian(logistic), ("f64[32]", "f64[256,32]", "f64[256]")),
    "embedding": (st.grad(embedding), ("f64[50,16]", "i64[20]", "f64[16]")),
    "lennard_jones": (st.grad(lennard_jones), ("f64[24,3]",)),
    "batched lennard_jones": (st.vmap(st.grad(lennard_jones)), ("f64[5,40,3]",)),
}
ALL = pytest.mark.parametrize("name", GRADIENTS)


@ALL
def test_nothing_is_multiplied_by_ones_or_added_to_zeros(name: str) -> None:
    graph = optimized(*_with_specs(name))
    for n in graph.nodes:
        if n.op.name in ("mul", "div"):
            assert not literal(n.args[1].node, 1.0), n
        if n.op.name == "mul":
            assert not literal(n.args[0].node, 1.0), n
        if n.op.name == "add" and n.path and n.path[-1] == "backward":
            assert not any(literal(a.node, 0.0) for a in n.args), n


@ALL
def test_no_view_of_the_same_kind_stands_on_another(name: str) -> None:
    graph = optimized(*_with_specs(name))
    for n in graph.nodes:
        if n.op.name in VIEWS:
            assert n.args[0].node.op is not n.op, n
        if n.op.name == "dot":
            assert not any(a.node.op.name == "transpose" for a in n.args), "transposed operands are other axes"


@ALL
def test_no_zeros_are_materialised(name: str) -> None:
    """Literals are values of kernels; only a scatter starts from an array of them."""
    program = generate(optimized(*_with_specs(name))).program
    scattered = name == "embedding"
    for nest in (s for s in program.steps if isinstance(s, Nest)):
        for leaf in nest.leaves:
            constant = [s for s in leaf.stage.stores if leaf.stage.body[s.value].op == "const" and s.combine == "set"]
            assert not constant or scattered, nest.name


def _with_specs(name: str) -> tuple[Any, ...]:
    f, specs = GRADIENTS[name]
    return (f, *specs)


def test_forward_and_backward_are_one_graph() -> None:
    found = count(optimized(*_with_specs("mlp")))
    assert found["tanh"] == found["exp"] == found["log"] == 1, "the backward uses what the forward computed"
    assert found["dot"] == 5, "two forward, three backward: the input's cotangent is not asked for"


def test_backward_of_a_chain_is_one_pass() -> None:
    def loss(x: Any) -> Any:
        y = np.sin(x) * np.exp(-x * x) + np.tanh(x)
        return np.sum(y * y * 0.5)

    (nest,) = steps(st.grad(loss), "f64[20000]")
    assert isinstance(nest, Nest)
    assert len(nest.leaves) == 1
    loads = [b.name for b, _ in nest.leaves[0].stage.loads]
    assert loads == ["x0"], "each element is read once"
    both = steps(st.value_and_grad(loss), "f64[20000]")
    assert len([s for s in both if any(b.name == "x0" for t in s.stages() for b, _ in t.loads)]) == 1


def test_gradient_of_layernorm_walks_a_row_four_times() -> None:
    """The mean, the variance, the sums of the cotangents, the result; sums over rows ride along where nothing else is
    written."""
    rows = steps(*_with_specs("layernorm"))[0]
    assert isinstance(rows, Nest)
    walks = [leaf for leaf in rows.leaves if leaf.loops]
    assert len(walks) == 4
    assert not [s for _, s, _ in rows.scratch.values() if isinstance(s, int) and s > 8], "no row is stored"
    filled = [{st.combine for st in leaf.stage.stores} for leaf in walks]
    assert filled == [set(), set(), {"sum"}, {"set"}]


def test_masks_made_of_indices_are_computed_where_they_are_used() -> None:
    """An array of pairs that every configuration shares would keep their kernels apart."""
    program = generate(optimized(*_with_specs("batched lennard_jones"))).program
    assert max(temporaries(program)) < 8 * 5 * 40 * 40, "the pairs' energies are summed over both atoms row by row"
    assert len([s for s in program.steps if isinstance(s, Nest)]) == 2


def test_hessian_is_one_product_with_rows_scaled() -> None:
    graph = optimized(*_with_specs("hessian"))
    found = count(graph)
    assert found["dot"] == 2, "x @ w, and x.T @ (d * x): no product with the unit vectors"
    assert found["transpose"] == found["iota"] == 0
    program = generate(graph).program
    kernels = [s for s in program.steps if isinstance(s, Nest)]
    assert len(kernels) <= 3


def test_infinities_stay_where_they_are_in_a_jacobian() -> None:
    """What the unit vectors do not select does not become NaN."""
    a = np.array([[1.0, np.inf], [2.0, 3.0]])
    x = np.array([1.0, 2.0])
    np.testing.assert_array_equal(st.compile(st.jacfwd(lambda v: a @ v))(x), a)
    assert np.isnan(st.compile(lambda a: a @ np.eye(2))(a)[0]).any(), "a product that the user wrote is NumPy's"


def test_per_sample_gradients_keep_no_more_than_activations() -> None:
    program = generate(optimized(*_with_specs("mlp per sample"))).program
    sizes = [s.nbytes for s in program.storages if s.kind == "temp"]
    assert max(sizes) <= 8 * 32 * 64, "the largest temporary is one layer's activations"


def test_transposed_operands_of_products_are_not_copied() -> None:
    for s in steps(*_with_specs("mlp")):
        if isinstance(s, Nest):
            assert any(leaf.stage.ops() + len(leaf.stage.reductions) for leaf in s.leaves), "a kernel that only moves"
            for leaf in s.leaves:
                if leaf.stage.label != "across":  # short rows, which are turned inside of a kernel
                    assert leaf.stage.ops() + len(leaf.stage.reductions) > 0, "a kernel that only moves"


@pytest.mark.parametrize(
    ("f", "specs", "routines"),
    [
        (lambda x: np.sort(x), ("f64[9,30]",), ["sort"]),
        (lambda x: np.cumsum(x), ("f64[9,30]",), ["scan"]),
        (lambda x: np.sum(np.exp(x)), ("f64[9,30]",), []),
        (lambda x: x[np.array([3, 1, 2])] * 2.0, ("f64[9,30]",), []),
    ],
    ids=["sort", "cumsum", "reduction", "gather"],
)
def test_batched_ops_are_one_kernel(f: Function, specs: tuple[str, ...], routines: list[str]) -> None:
    made = steps(st.vmap(f), *specs)
    assert [s.name for s in made if isinstance(s, Routine)] == routines
    assert len(made) == max(len(routines), 1)


@pytest.mark.parametrize("f", [lambda a, x: a @ x, lambda a, x: np.tensordot(a, x, 1)], ids=["matmul", "tensordot"])
def test_a_shared_matrix_times_many_moves_none_of_them(f: Function) -> None:
    mapped = st.vmap(f, in_dims=(None, 0))
    (made,) = steps(mapped, "f64[40,30]", "f64[9,30,20]")
    assert isinstance(made, Routine)
    a, x = np.random.default_rng(0).standard_normal((4, 3)), np.random.default_rng(1).standard_normal((2, 3, 16))
    np.testing.assert_allclose(st.compile(mapped)(a, x), a @ x)


def test_batched_matvec_is_one_matmul() -> None:
    found = count(optimized(st.vmap(lambda a, x: a @ x, in_dims=(None, 0)), "f64[40,30]", "f64[50,30]"))
    assert found["dot"] == 1
    assert found["transpose"] == found["broadcast"] == 0


@pytest.mark.parametrize("n", [7, "n"])
def test_the_adjoint_of_going_round_an_axis_is_a_gather(n: Any) -> None:
    def rolled(x: Any, s: Any) -> Any:
        return np.sum(np.roll(x, s, axis=1) ** 2 * x)

    def neighbours(x: Any) -> Any:
        i = np.arange(x.shape[1])
        return np.sum((x[:, (i + 1) % x.shape[1]] - 2.0 * x + x[:, (i - 1) % x.shape[1]]) ** 2)

    for f, specs in ((rolled, (f"f64[3,{n}]", "i64[]")), (neighbours, (f"f64[3,{n}]",))):
        assert not count(optimized(st.grad(f), *specs))["scatter"]
    x = np.random.default_rng(0).standard_normal((3, 7))
    for shift in (0, 3, -2, 7, 16, -(2**62), 2**63 - 1):
        st.testing.check_grads(lambda x, s=shift: rolled(x, np.asarray(s)), (x,), order=2)
    st.testing.check_grads(neighbours, (x,), order=2)


def written(program: Any) -> list[str]:
    """The arrays that are filled with a literal, and those that only move."""
    found = []
    for nest in (s for s in program.steps if isinstance(s, Nest)):
        for leaf in nest.leaves:
            values = [leaf.stage.body[s.value].op for s in leaf.stage.stores if s.combine == "set"]
            found += [nest.name for op in values if op == "const"]
            if not leaf.stage.ops() and not leaf.stage.reductions and set(values) == {"load"}:
                found.append(nest.name)
    return found


def temporaries(program: Any) -> list[int]:
    return [s.nbytes for s in program.storages if s.kind == "temp"]


def smoothed(x: Any, k: Any) -> Any:
    windows = np.lib.stride_tricks.sliding_window_view(x, k.shape)
    return np.sum(np.einsum("ijkl,kl->ij", windows, k) ** 2)


def test_windows_are_read_where_they_are_there_and_back() -> None:
    """No window is written to memory; but for the ends, which are padded, nothing is filled with zeros."""
    image = 8 * 60 * 50
    specs = ("f64[60,50]", "f64[3,4]")
    assert max(temporaries(generate(optimized(smoothed, *specs)).program)) <= image
    program = generate(optimized(st.grad(smoothed, argnums=(0, 1)), *specs)).program
    assert not [s for s in program.steps if isinstance(s, Routine)]
    assert max(temporaries(program)) <= 4 * image, "the cotangent along one axis, of the windows along the other"
    average = st.grad(lambda x: np.sum(np.mean(np.lib.stride_tricks.sliding_window_view(x, 20), axis=-1) ** 2))
    program = generate(optimized(average, "f64[5000]")).program
    assert max(temporaries(program)) <= 8 * 5000
    x, k = np.random.default_rng(0).standard_normal((17, 12)), np.arange(6.0).reshape(2, 3)
    st.testing.check_grads(smoothed, (x, k), order=2)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric", "wrap"])
def test_padding_joins_parts(mode: Any) -> None:
    def padded(x: Any) -> Any:
        return np.sum(np.pad(x, ((2, 1), (0, 3)), mode=mode) ** 3)

    for f in (padded, st.grad(padded)):
        assert not {"gather", "scatter"} & count(optimized(f, "f64[30,20]")).keys()
    x = np.random.default_rng(0).standard_normal((4, 3))
    st.testing.check_grads(padded, (x,), order=2)


def test_reductions_are_written_into_what_they_are_joined_to() -> None:
    def joined(x: Any) -> Any:
        return np.concatenate([np.sum(x, axis=1), np.max(x, axis=0)])

    program = generate(optimized(joined, "f64[30,40]")).program
    assert not temporaries(program)
    assert not written(program)


def log_softmax(z: Any) -> Any:
    s = z - np.max(z, axis=-1, keepdims=True)
    return s - np.log(np.sum(np.exp(s), axis=-1, keepdims=True))


def labelled(z: Any, labels: Any) -> Any:
    return -np.mean(log_softmax(z)[np.arange(z.shape[0]), labels])


@pytest.mark.parametrize("mapped", [False, True])
def test_a_loss_with_labels_walks_its_rows_in_one_kernel(mapped: bool) -> None:
    """No array of zeros with ones at the labels, no sum along the rows for a single element of each."""
    f: Function = st.grad(labelled)
    specs = ("f64[40,30]", "i64[40]")
    if mapped:
        f, specs = st.vmap(f), ("f64[3,40,30]", "i64[3,40]")
    graph = optimized(f, *specs)
    assert not count(graph)["scatter"]
    program = generate(graph).program
    rows = [s for s in program.steps if isinstance(s, Nest) and any(leaf.loops for leaf in s.leaves) and s.outer]
    assert len(rows) == 1
    assert max(temporaries(program), default=0) <= 8 * 3 * 40, "one number per row"
    assert len([leaf for leaf in rows[0].leaves if leaf.loops]) == 3, "the maximum, the sum, the result"


def test_a_loss_with_labels_checks_them() -> None:
    z, labels = np.random.default_rng(0).standard_normal((6, 5)), np.array([0, -5, 4, -1, 2, 3])
    f = st.compile(st.grad(labelled))
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    p[np.arange(6), labels] -= 1
    np.testing.assert_allclose(f(z, labels), p / 6, rtol=1e-13, atol=1e-15)
    for bad in (5, -6):
        labels[3] = bad
        with pytest.raises(IndexError):
            f(z, labels)

    def shared(b: Any, i: Any) -> Any:
        return np.sum(np.broadcast_to(b[:, None], (6, 5))[np.arange(6), i] * 3)

    with pytest.raises(IndexError):  # its gradient reads nothing where the labels point
        st.compile(st.grad(shared))(z[:, 0], labels)


def test_value_and_gradient_of_rows_share_the_kernel_of_the_rows() -> None:
    """The loss is one number that waits for all rows: what is left to do of a row does not wait for it."""

    def loss(x: Any) -> Any:
        top = np.max(x, axis=1)
        return np.sum(np.log(np.sum(np.exp(x - top[:, None]), axis=1)) + top)

    program = generate(optimized(st.value_and_grad(loss), "f64[40,30]")).program
    readers = [
        s for s in program.steps if isinstance(s, Nest) and any(b.name == "x0" for t in s.stages() for b, _ in t.loads)
    ]
    assert len(readers) == 1
    assert max(temporaries(program)) == 8 * 40


def test_sums_over_both_axes_of_pairs_are_one_pass() -> None:
    def energy(x: Any, y: Any) -> Any:
        return np.sum(np.sqrt(np.sum((x[:, None] - y[None]) ** 2, axis=-1) + 1e-3))

    for f in (st.grad(energy, argnums=(0, 1)), st.value_and_grad(energy, argnums=(0, 1))):
        program = generate(optimized(f, "f64[200,3]", "f64[100,3]")).program
        (pairs,) = [
            s
            for s in program.steps
            if isinstance(s, Nest) and any(b.name == "x1" for t in s.stages() for b, _ in t.loads)
        ]
        assert pairs.rows, "sums over rows are added up row by row"

    program = generate(
        optimized(st.grad(lambda x, y: np.sum(np.sin(np.outer(x, y))), argnums=(0, 1)), "f64[200]", "f64[100]")
    ).program
    assert max(temporaries(program)) < 8 * 200 * 100 // 16, "no array of the pairs"


def test_the_trace_of_a_product_has_no_identity_matrix() -> None:
    specs = ("f64[30,20]", "f64[20,30]")
    assert count(optimized(lambda a, b: np.trace(a @ b), *specs))["diagonal"] == 0
    graph = optimized(st.grad(lambda a, b: np.trace(a @ b), argnums=(0, 1)), *specs)
    assert count(graph) == {"input": 2, "transpose": 2}
    squared = optimized(st.grad(lambda a: np.trace(a @ a.T)), "f64[30,20]")
    assert count(squared)["dot"] == count(squared)["diagonal_update"] == 0
    scaled = count(
        optimized(st.grad(lambda x, a: np.sum(np.sin(np.diag(x) @ a)), argnums=(0, 1)), "f64[20]", "f64[20,9]")
    )
    assert scaled["dot"] == 2, "the user's own product, and one number for each row"
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((3, 5, 4)), rng.standard_normal((3, 4, 5))
    for k in (0, 2, -1):
        st.testing.check_grads(lambda a, b, k=k: np.sum(np.trace(a @ b, k, -2, -1) ** 2), (a, b), order=2)
        np.testing.assert_allclose(
            st.compile(lambda a, b, k=k: np.diagonal(a @ b, k))(a[0], b[0]), np.diagonal(a[0] @ b[0], k)
        )
    inf = np.array([[1.0, np.inf], [2.0, 3.0]])
    assert np.isnan(st.compile(lambda v, a: np.diag(v) @ a)(np.ones(2), inf)[1, 1]), (
        "a product that the user wrote is NumPy's"
    )


def test_sums_of_what_is_repeated_are_taken_once() -> None:
    graph = optimized(st.grad(lambda x, y: np.sum(np.outer(x, y)), argnums=(0, 1)), "f64[300]", "f64[200]")
    assert max(n.args[0].type.ndim for n in graph.nodes if n.op.name == "reduce_sum") == 1


def test_columns_of_a_large_array_are_not_filled_one_by_one() -> None:
    made = steps(st.grad(lambda x: np.sum(np.mean(x, axis=0) ** 2)), "f64[3000,400]")
    (fill,) = [s for s in made if isinstance(s, Nest) and any(b.name == "out0" for t in s.stages() for b in _stored(t))]
    assert len(fill.leaves) == 1
    assert [a.extent for a in (*fill.outer, *fill.leaves[0].loops)] == [3000, 400]


def _stored(stage: Any) -> list[Any]:
    return [s.buffer for s in stage.stores]


def pieces_stacked(x: Any, y: Any) -> Any:
    return np.sum(np.sin(np.stack([x, 2.0 * y, x * y])))


def pieces_joined(x: Any, y: Any) -> Any:
    return np.sum(np.concatenate([x, y]) ** 3)


def pieces_written(x: Any, y: Any) -> Any:
    out = np.empty((3, x.shape[0]))
    out[0], out[1], out[2] = x, np.sin(y), x * y
    return np.sum(out**2)


def pieces_in_turn(x: Any, y: Any) -> Any:
    out = np.zeros(2 * x.shape[0])
    out[::2], out[1::2] = x * y, x - y
    return np.sum(np.exp(out))


@pytest.mark.parametrize("f", [pieces_stacked, pieces_joined, pieces_written, pieces_in_turn])
@pytest.mark.parametrize("second", [False, True])
def test_gradients_of_what_is_put_together_come_from_the_pieces(f: Function, second: bool) -> None:
    def hvp(x: Any, y: Any, u: Any, v: Any) -> Any:
        return st.jvp(st.grad(f, argnums=(0, 1)), (x, y), (u, v))[1]

    for n in (50,) if f is pieces_in_turn else (50, "n"):
        spec = f"f64[{n}]"
        graph = optimized(hvp, *[spec] * 4) if second else optimized(st.grad(f, argnums=(0, 1)), spec, spec)
        assert not {"concatenate", "slice_update", "pad"} & count(graph).keys()
    assert len([s for s in generate(graph).program.steps if isinstance(s, Nest)]) <= 2
    x, y = np.random.default_rng(0).uniform(0.5, 1.5, (2, 6))
    st.testing.check_grads(f, (x, y), order=2)


def test_pieces_do_not_double_along_a_chain_of_shifted_updates() -> None:
    """Each step of these prefix sums adds what lies twice as far away: pieces cut for all steps would be thousands."""

    def sums(x: Any) -> Any:
        s, d = x.copy(), 1
        while d < s.size:
            s[d:] += s[:-d]
            d *= 2
        return np.sum(np.sin(s))

    assert sum(count(optimized(st.grad(sums), "f64[20000]")).values()) < 600
