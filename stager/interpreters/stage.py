"""`StageInterpreter`: level 0, the only one that appends nodes.

It also turns what is not traced (ndarrays, NumPy and Python scalars) into constants: `lift`. Outside `compile` a
trace carries its concrete inputs (`Trace.concrete`), so that any value can be computed on demand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from stager.interpreters.stack import Interpreter, Stack, Tracer, made_at, stack, user_location
from stager.ir.core_ops import constant_op, fill_op
from stager.ir.dims import symbol
from stager.ir.dtypes import DType, dtype_of
from stager.ir.graph import Graph, Node, SymbolDef, Value
from stager.ir.op import Op
from stager.ir.raising import may_raise
from stager.ir.types import Type


class StageInterpreter(Interpreter):
    """Appends nodes to one graph."""

    key = "Stage"
    implicit = True

    def __init__(self, graph: Graph | None = None) -> None:
        super().__init__()
        self.graph = Graph() if graph is None else graph
        self.constants: dict[int, tuple[Any, Value]] = {}  # id -> (kept alive, its node)
        self.concrete: Any = None  # the known values (`stager.concrete.Concrete`), outside compile
        self.dim_guards: list[tuple[Any, int, int]] = []  # (dim, low, high): what comparisons of dims relied on
        self.learnt: dict[str, tuple[Any, Any]] = {}  # symbol that data define -> its least and greatest value, as dims
        self.any_int = False  # whether ints among the arguments stand for any
        self.by_type = False  # whether arguments were given as types: sizes are no facts then
        self.leaves: list[Any] = []  # the argument leaves (`stager.tracing.Leaf`)
        self.commits = False  # whether the graph says what the caller's arrays hold where something may raise
        self.changed: dict[Any, None] = {}  # cells of the caller's arrays that were written since the last commit
        self.loops: list[tuple[str, int, str]] = []  # (file, line, how the way back of a loop runs), for `explain`
        self.steps = 0  # how many are being made, of which nothing is committed before they are done

    def process(self, op: Op, args: Sequence[Any], params: dict[str, Any], regions: tuple[Graph, ...] = ()) -> Any:
        if op.family == "control" and not self.keeps_calls():
            from stager.ops.regions import holds_call, rebuild, replay

            if "inline" in op.facts:  # a call that only the levels above need: level 0 runs its region
                return tuple(replay(params["regions"][0], args))
            if holds_call(params["regions"]):
                return rebuild(op, args, params)
        if "of_one_call" in op.facts:
            return args[0]
        if self.changed and may_raise(op, params):
            from stager.committed import commit_writes

            committed = commit_writes(self)
            args = [committed.get(a, a) if type(a) is Value else a for a in args]
        graph = self.graph
        known = graph.nodes
        operands = []
        for a in args:
            if type(a) is not Value:
                a = self.lift(a)
            elif a.node not in known:
                _foreign_value(op, a)
            operands.append(a)
        if op.family == "control":
            regions = params["regions"]
            params = {k: v for k, v in params.items() if k != "regions"}
            if "counts_turns" in op.facts:
                from stager.ops.regions import fresh_symbol_name

                params["size"] = symbol(fresh_symbol_name(graph))
            types = op.type_rule(*[a.type for a in operands], regions=regions, **params)
        else:
            types = op.type_rule(*[a.type for a in operands], **params)
        if type(types) is Type:
            types = (types,)
        s = stack()
        node = Node(op, tuple(operands), params, tuple(types), regions, user_location(3), _path(s))
        if "counts_turns" in op.facts:
            graph.symbols[str(params["size"])] = SymbolDef("data", Value(node, params["n_carry"]))
        graph.add(node)
        if op.multiple_results:
            return tuple([Value(node, i) for i in range(len(types))])
        return Value(node, 0)

    def keeps_calls(self) -> bool:
        """Whether calls that only transforms look into stay nodes: in a region while a transform may see them."""
        return False

    def input(self, type: Type, name: str | None = None) -> Value:
        """A new graph input."""
        from stager.ir.graph import GraphBuilder

        return GraphBuilder(self.graph).input(type, name)

    def lift(self, x: Any, dtype: DType | None = None) -> Value:
        """The constant node for an untraced value."""
        if isinstance(x, Tracer):
            _out_of_level(x)
        if isinstance(x, bool | int | float) and dtype is not None:
            return self.scalar(x, dtype)
        array = np.asarray(x, dtype=None if dtype is None else dtype.np)
        if array.ndim == 0:
            return self.scalar(array[()], dtype_of(array.dtype))
        held = self.constants.get(id(x))
        if held is not None:
            return held[1]
        frozen = array.astype(dtype_of(array.dtype).np, order="C", copy=True)
        frozen.setflags(write=False)
        value: Value = self.process(constant_op, (), {"value": frozen})
        self.constants[id(x)] = (x, value)
        return value

    def scalar(self, x: Any, dtype: DType, shape: tuple[Any, ...] = ()) -> Value:
        """A literal of `dtype`, filling `shape`."""
        value: Value = self.process(fill_op, (), {"value": literal(x, dtype), "shape": shape, "dtype": dtype})
        return value


def literal(x: Any, dtype: DType) -> Any:
    """A Python scalar of the dtype's own kind: params are plain, hashable and printable."""
    if dtype.kind == "b":
        return bool(x)
    if dtype.is_integer:
        return int(x)
    if dtype.bits == 64 and isinstance(x, int | float):
        return float(x)
    with np.errstate(all="ignore"):  # 1e300 as f32 is inf, as NumPy's own cast of a literal
        return float(dtype.np.type(x))


def _path(s: Stack) -> tuple[str, ...]:
    path = tuple([i.key.lower() for i in s.levels if not i.implicit])
    return (*path, "backward") if s.backward else path


def _foreign_value(op: Op, value: Value) -> NoReturn:
    from stager.errors import EscapedTracerError, describe

    raise EscapedTracerError(
        describe(
            f"{op.name}: an operand {value.type}{made_at(value)} belongs to another trace",
            remedy="return the value from the traced function; do not keep it in a global, an attribute or a list",
        )
    )


def _out_of_level(x: Tracer) -> NoReturn:
    from stager.errors import EscapedTracerError, describe

    raise EscapedTracerError(
        describe(
            f"a traced array {x.type}{made_at(x)} is used where its {x.interp!r} is not in force",
            remedy="use it outside the context that pops or clears the level, or bring the level back with "
            "temporarily_restore_interpreter_stack",
        )
    )
