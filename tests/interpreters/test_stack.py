"""The interpreter stack: its verbs, escape hatches, states, and the defects of the original that it must not have."""

from __future__ import annotations

import contextlib
import pickle

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
        JvpInterpreter(True, False),
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


def test_original_names_are_aliases():
    assert functorch.FuncTorchInterpreter is stk.Interpreter
    assert functorch.retrieve_current_functorch_interpreter is stk.retrieve_current_interpreter
    with functorch.nested(st.no_grad(), st.enable_grad()):
        assert st.is_grad_enabled()


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
