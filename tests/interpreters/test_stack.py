"""The interpreter stack: its verbs, escape hatches, states, and the defects of the original that it must not have."""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path

import numpy as np
import pytest

import stager as st
from stager import functorch
from stager.errors import EscapedTracerError, MutationError, TransformError
from stager.interpreters import stack as stk
from stager.interpreters.functionalize import FunctionalizeInterpreter
from stager.interpreters.grad import GradInterpreter
from stager.interpreters.jvp import JvpInterpreter
from stager.interpreters.states import coerce_interpreter
from stager.interpreters.vmap import VmapInterpreter
from stager.ops.elementwise import sin


def test_levels_are_those_the_user_asked_for():
    seen = []

    def f(x):
        seen.extend((i.key, i.level) for i in stk.retrieve_all_interpreters())
        return x * x

    st.vmap(st.grad(f))(np.ones(3))
    assert seen == [("Vmap", 1), ("Grad", 2)]


def test_current_interpreter_is_the_innermost():
    def f(x):
        assert isinstance(stk.retrieve_current_interpreter(), GradInterpreter)
        return x * x

    st.vmap(st.grad(f))(np.ones(3))


def test_popping_an_empty_stack_is_an_error():
    with pytest.raises(RuntimeError, match="empty"):
        stk.retrieve_current_interpreter()
    with pytest.raises(RuntimeError, match="empty"), stk.temporarily_pop_interpreter_stack():
        pass


def test_restoring_nothing_does_nothing():
    with stk.temporarily_restore_interpreter_stack(None):
        pass
    with stk.temporarily_restore_interpreter_stack([]):
        pass


def test_restoring_a_dead_level_is_an_error():
    kept = []

    def f(x):
        kept.extend(stk.retrieve_all_interpreters())
        return x

    st.vmap(f)(np.ones(2))
    with pytest.raises(RuntimeError, match="has ended"), stk.temporarily_restore_interpreter_stack(kept):
        pass


def test_pop_clear_and_restore():
    def f(x):
        with stk.temporarily_pop_interpreter_stack() as popped:
            assert isinstance(popped, GradInterpreter)
            assert [i.key for i in stk.retrieve_all_interpreters()] == ["Vmap"]
        with stk.temporarily_clear_interpreter_stack() as saved:
            assert stk.retrieve_all_interpreters() == []
            with stk.temporarily_restore_interpreter_stack(saved):
                assert [i.key for i in stk.retrieve_all_interpreters()] == ["Vmap", "Grad"]
        return x * x

    st.vmap(st.grad(f))(np.ones(3))


def test_states_hold_every_fact():
    def states(f):
        found = []

        def g(x):
            found.extend(stk.stack_state())
            return x

        f(g)(np.ones(3))
        return found

    vmap3 = states(lambda g: st.vmap(g))
    vmap2 = states(lambda g: lambda x: st.vmap(g)(x[:2]))
    assert vmap3 != vmap2, "the batch size belongs to the state"
    with_views = states(lambda g: st.functionalize(g))
    without = states(lambda g: st.functionalize(g, remove="mutations_and_views"))
    assert with_views != without, "the views flag belongs to the state"


def test_compare_state_guards():
    def f(x):
        state = stk.stack_state()
        assert stk.compare_state(state)
        assert not stk.compare_state(state[:-1])
        return x

    st.vmap(f)(np.ones(2))


@pytest.mark.parametrize(
    "interp",
    [
        VmapInterpreter(3, "same", "i"),
        GradInterpreter(False),
        JvpInterpreter(False),
        FunctionalizeInterpreter(False),
    ],
    ids=lambda i: i.key,
)
def test_interpreters_pickle_as_their_state(interp):
    again = pickle.loads(pickle.dumps(interp))
    assert type(again) is type(interp)
    assert again.get_state() == interp.get_state()
    assert again.check_state(interp._cptr)
    assert coerce_interpreter(interp.get_state()).get_state() == interp.get_state()


NAMES = {
    "FuncTorchInterpreter": stk.Interpreter, "VmapInterpreter": VmapInterpreter, "GradInterpreter": GradInterpreter,
    "JvpInterpreter": JvpInterpreter, "FunctionalizeInterpreter": FunctionalizeInterpreter,
    "coerce_cinterpreter": coerce_interpreter, "compare_functorch_state": stk.compare_state,
    "retrieve_current_functorch_interpreter": stk.retrieve_current_interpreter,
    "retrieve_all_functorch_interpreters": stk.retrieve_all_interpreters,
    "nested": stk.nested, "dispatch_functorch": functorch.dispatch_functorch,
    "temporarily_pop_interpreter_stack": stk.temporarily_pop_interpreter_stack,
    "temporarily_clear_interpreter_stack": stk.temporarily_clear_interpreter_stack,
    "temporarily_restore_interpreter_stack": stk.temporarily_restore_interpreter_stack,
}  # fmt: skip
MEMBERS = {
    stk.Interpreter: ["_cptr", "process", "lower", "level", "key", "get_state", "check_state", "__getstate__"],
    VmapInterpreter: ["batch_size", "randomness"],
    GradInterpreter: ["lift", "prev_grad_mode"],
    JvpInterpreter: ["lift", "prev_fwd_grad_mode"],
    FunctionalizeInterpreter: ["functionalize_add_back_views"],
}


def test_every_name_of_the_original_is_there_and_documented():
    made = {
        VmapInterpreter: VmapInterpreter(3), GradInterpreter: GradInterpreter(), JvpInterpreter: JvpInterpreter(),
        FunctionalizeInterpreter: FunctionalizeInterpreter(),
    }  # fmt: skip
    for name, meaning in NAMES.items():
        assert getattr(functorch, name) is meaning
    for cls, members in MEMBERS.items():
        for interp in made.values() if cls is stk.Interpreter else [made[cls]]:
            assert all(hasattr(interp, m) for m in members)
    names = {*NAMES, *[m for members in MEMBERS.values() for m in members]}
    assert len(names) == 28
    table = (Path(__file__).parents[2] / "docs" / "names.md").read_text().partition("names of the original module")[2]
    assert {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")} == names


def test_names_of_the_original_at_work():
    """Each of them used as the original is, below vmap of grad of jvp."""
    seen = []

    def f(x):
        vmap, grad, jvp = functorch.retrieve_all_functorch_interpreters()
        assert functorch.retrieve_current_functorch_interpreter() is jvp
        assert (vmap.batch_size, vmap.randomness, vmap.level, vmap.key) == (3, "error", 1, "Vmap")
        assert (grad.prev_grad_mode, jvp.prev_fwd_grad_mode) == (True, True)
        state = [i.get_state() for i in (vmap, grad, jvp)]
        assert functorch.compare_functorch_state(state)
        with functorch.temporarily_pop_interpreter_stack() as popped:
            assert popped is jvp
            assert not functorch.compare_functorch_state(state)
        with jvp.lower(), grad.lower():
            assert functorch.retrieve_current_functorch_interpreter() is vmap
        with functorch.temporarily_clear_interpreter_stack() as saved:
            assert functorch.compare_functorch_state([])
            with functorch.temporarily_restore_interpreter_stack(saved):
                assert functorch.compare_functorch_state(state)
        assert functorch.coerce_cinterpreter(vmap._cptr).check_state(vmap.get_state())
        (lifted,), rest = jvp.lift((x,), {"n": 3})
        assert rest == {"n": 3}
        lifted[0] = 7.0  # stays at this level
        seen.append(True)
        with functorch.nested(st.no_grad(), st.enable_grad()) as entered:
            assert entered == (None, None)
        return functorch.dispatch_functorch(sin, (x,), {}).sum()

    slopes = st.vmap(st.grad(lambda x: st.jvp(f, (x,), (np.ones(2),))[1]))(np.ones((3, 2)))
    np.testing.assert_allclose(slopes, -np.sin(np.ones((3, 2))))
    assert seen


def test_a_level_lowers_in_the_mode_around_it():
    def inner(y):
        with stk.temporarily_pop_interpreter_stack():
            assert not st.is_grad_enabled()
        assert st.is_grad_enabled()
        return (y**2).sum()

    def f(x):
        with st.no_grad():
            return st.grad(inner)(x).sum()

    st.grad(f)(np.ones(3))


# -- defects of the original ------------------------------------------------------------------------------------------


def test_functionalize_nests_in_itself():
    def f(x):
        y = x * 2
        y[0] = 5
        return y

    np.testing.assert_array_equal(st.functionalize(st.functionalize(f))(np.ones(2)), [5, 2])


@pytest.mark.parametrize("remove", ["mutations", "mutations_and_views"])
def test_gradient_through_a_mutated_view(remove):
    def f(v):
        y = v * 2
        y[1:] *= 3
        return (y**2).sum()

    got = st.functionalize(st.grad(f), remove=remove)(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(got, [8, 144, 216])


def test_vmap_of_functionalize_with_a_slice_write():
    def f(x):
        y = x[1:]
        y[0] = 7
        return x.sum()

    x = np.ones((2, 3))
    np.testing.assert_array_equal(st.vmap(st.functionalize(f))(x.copy()), [9, 9])


def test_grad_of_functionalize_with_a_write():
    def f(x):
        y = x * 1
        y[0] = x[1]
        return (y * y).sum()

    np.testing.assert_allclose(st.grad(st.functionalize(f))(np.array([1.0, 3.0])), [0, 12])


@pytest.mark.parametrize("inside", [lambda f: f, st.functionalize], ids=["bare", "functionalize"])
def test_transforms_of_while_loop_and_scan(inside):
    def loop(x):
        return st.while_loop(lambda c: c.sum() < 20, lambda c: c * x, x * 1.0).sum()

    def scan(x):
        last, ys = st.scan(lambda c, y: (c * y + x[0], c), x[1], x)
        return last + ys.sum()

    x, t = np.array([1.5, 2.0, 1.2]), np.array([0.1, -0.3, 0.2])
    for f in (inside(loop), inside(scan)):
        slope = (f(x + 1e-6 * t) - f(x - 1e-6 * t)) / 2e-6
        np.testing.assert_allclose(st.grad(f)(x) @ t, slope, rtol=1e-6)
        np.testing.assert_allclose(st.jvp(f, (x,), (t,))[1], slope, rtol=1e-6)
        rows = np.stack([x, x * 1.1])
        np.testing.assert_allclose(st.vmap(f)(rows), [f(r) for r in rows])
        np.testing.assert_allclose(st.vmap(st.grad(f))(rows), [st.grad(f)(r) for r in rows])


# -- escapes and ownership --------------------------------------------------------------------------------------------


def test_escaped_tracer_names_its_level():
    kept = []

    def f(x):
        kept.append(x * 2)
        return x.sum()

    st.grad(f)(np.ones(3))
    with pytest.raises(EscapedTracerError, match=r"Grad level 1.*ended"):
        st.vmap(lambda x: x + kept[0])(np.ones(3))


def test_lane_dependent_write_into_a_shared_buffer_is_an_error():
    def f(buffer, x):
        buffer[0] = x
        return buffer.sum()

    with pytest.raises(MutationError, match="older than the vmap"):
        st.vmap(f, in_dims=(None, 0))(np.zeros(3), np.ones(2))


def test_a_batched_value_into_a_buffer_made_inside():
    def f(x):
        buffer = np.zeros(3)
        buffer[1] = x
        return buffer

    np.testing.assert_array_equal(st.vmap(f)(np.array([1.0, 2.0])), [[0, 1, 0], [0, 2, 0]])


def test_write_under_grad_reaches_the_caller():
    def f(x):
        x[0] = 7.0
        return (x * x).sum()

    a = np.ones(3)
    np.testing.assert_array_equal(st.grad(f)(a), [0, 2, 2])
    np.testing.assert_array_equal(a, [7, 1, 1])


def test_write_under_vmap_reaches_the_caller():
    def f(x):
        x[0] = 7.0
        return x.sum()

    a = np.ones((2, 3))
    st.vmap(f)(a)
    np.testing.assert_array_equal(a, [[7, 1, 1], [7, 1, 1]])


def test_writes_of_a_failed_level_vanish():
    def inner(y, buffer):
        buffer[0] = y
        raise KeyError("stop")

    def f(x):
        buffer = np.zeros(2)
        with contextlib.suppress(KeyError):
            st.grad(inner)(x[0], buffer)
        return buffer + x

    np.testing.assert_array_equal(st.functionalize(f)(np.ones(2)), [1, 1])


# -- grad modes -------------------------------------------------------------------------------------------------------


def test_no_grad_inside_grad_stops():
    def f(x):
        with st.no_grad():
            c = x**2
        return x * c

    assert st.grad(f)(3.0) == 9.0


def test_grad_inside_no_grad_differentiates():
    with st.no_grad():
        assert st.grad(lambda x: x**2)(3.0) == 6.0


@st.custom_jvp
def ruled(x):
    return np.sin(x)


ruled.defjvp(lambda primals, tangents: (np.sin(primals[0]), np.cos(primals[0]) * tangents[0]))
pulled = st.custom_vjp(lambda x: np.sin(x))
pulled.defvjp(lambda x: (np.sin(x), x), lambda x, ct: (np.cos(x) * ct,))


def looped(x):
    for _ in range(3):
        x = np.sin(x)
    return x


RULED = {
    "custom_jvp": ruled,
    "custom_vjp": pulled,
    "custom_vmap": st.custom_vmap(lambda x: np.sin(x)),
    "checkpoint": st.checkpoint(looped),
    "states": st.checkpoint(looped, policy=2),
    "loop": looped,
}


@pytest.mark.parametrize("name", RULED)
def test_rules_that_differentiate_keep_to_their_own_level(name):
    """The mode around a transform neither stops the levels inside it nor is it forgotten by them."""
    f, x, t = RULED[name], np.array([1.0, 2.0, 3.0]), np.array([0.5, -1.0, 2.0])

    def slope(x):
        return st.grad(lambda y: f(y).sum())(x)

    def tangent(x):
        return st.jvp(f, (x,), (t,))[1]

    def off(mode, g):
        def within(x):
            with mode(False):
                d = g(x)
            return (d * x).sum()

        return within

    for g in (slope, tangent, f):
        constant = g(x)
        gradient = st.grad(off(st.set_grad_enabled, g))
        np.testing.assert_allclose(gradient(x), constant)
        np.testing.assert_allclose(st.compile(gradient)(x), constant)
        np.testing.assert_allclose(st.jvp(off(st.set_fwd_grad_enabled, g), (x,), (t,))[1], constant @ t)


def test_modes_as_functions_contexts_and_decorators():
    def from_here_on(x):
        st.set_grad_enabled(False)
        return (x * x).sum()

    assert not st.grad(from_here_on)(np.ones(2)).any()
    assert not st.compile(st.grad(from_here_on))(np.ones(2)).any()
    assert st.is_grad_enabled()
    mode = st.no_grad()
    with mode, mode:
        assert not st.is_grad_enabled()
    assert st.is_grad_enabled()

    @st.set_grad_enabled(False)
    def constant(x, depth):
        return constant(x, depth - 1) if depth else x * 2

    assert st.is_grad_enabled()
    assert st.grad(lambda x: x * constant(x, 2))(3.0) == 6.0

    @st.set_fwd_grad_enabled(False)
    def still(x):
        return x * 2

    assert st.jvp(lambda x: x * still(x), (3.0,), (1.0,))[1] == 6.0


def test_code_that_asks_for_the_mode_is_compiled_for_each_answer():
    f = st.compile(lambda x: x * 2 if st.is_grad_enabled() else x * 3)
    for _ in range(2):
        assert f(1.0) == 2.0
        with st.no_grad():
            assert f(1.0) == 3.0


def test_forward_mode_off():
    def f(x):
        with st.set_fwd_grad_enabled(False):
            c = x**2
        return x * c

    assert st.jvp(f, (3.0,), (1.0,))[1] == 9.0


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_integer_inputs_are_refused():
    with pytest.raises(TransformError, match="floating-point"):
        st.grad(lambda x: x.sum())(np.arange(3))


def test_non_scalar_result_is_refused():
    with pytest.raises(TransformError, match="scalar"):
        st.grad(lambda x: x * 2)(np.ones(3))


@pytest.mark.parametrize("use", [float, np.asarray, lambda x: np.array([x, x])], ids=["float", "asarray", "list"])
def test_what_would_drop_a_derivative_raises(use):
    @st.do_not_convert
    def f(x):
        use(x)
        return x * x

    with pytest.raises(TypeError, match="drop its derivative"):
        st.grad(f)(2.0)


def test_stop_gradient_makes_it_legal():
    @st.do_not_convert
    def f(x):
        return x * float(st.stop_gradient(x))

    assert st.grad(f)(3.0) == 3.0


def test_lines_of_a_long_function():
    """Its line table is unpacked instead of read from the start for every node."""
    steps = "".join(f"    x = (\n        x + {i}.5\n    )\n" for i in range(1500))
    source = f"def long(x):\n{steps}    return x\n"
    scope: dict = {"__name__": "long_function"}
    exec(compile(source, "long_function.py", "exec"), scope)
    assert len(scope["long"].__code__.co_linetable) >= stk.LONG_TABLE
    adds = [n for n in st.make_graph(scope["long"])(np.ones(2)).nodes if n.op.name == "add"]
    assert [n.loc for n in adds] == [("long_function.py", 3 * i + 3, "long") for i in range(1500)]
