"""`export` and `import_`: a function's graph as text that later versions read, and back as a function.

An `Exported` is a Python function whose body is the graph: called under a trace it binds the graph's ops at the level
in force, so it compiles, nests and transforms as the function did that it was made from.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stager.errors import DTypeError, ShapeError, UnsupportedError, describe
from stager.export_text import REQUIRED, ExportError, LeafRecord, Parameter, Record, ResultRecord, read, write
from stager.interpreters.stack import active
from stager.ir.dims import Dim, Expr, Sym, substitute, symbols_of
from stager.ir.graph import Graph
from stager.ir.types import Type, parse_type
from stager.runtime.structure import flatten, unflatten


class Exported:
    """An exported function. Call it with arrays of the types that it was exported for.

    `graph` is its graph, `text` what `import_` reads, `captured` its captured arrays by name: writable, and a new array
    put there is used from the next call on.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.captured: dict[str, np.ndarray[Any, Any]] = dict(record.captured)
        self.__name__ = self.__qualname__ = record.name
        self.__signature__ = record.signature()
        self._compiled: Any = None

    @property
    def graph(self) -> Graph:
        """The graph: the arguments' arrays in order, then the captured ones, are its inputs."""
        return self.record.graph

    @property
    def text(self) -> str:
        """The text that `import_` reads."""
        return write(_with_captured(self.record, self.captured))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the text into a file, in one step."""
        target = Path(path)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        temporary.write_text(self.text, encoding="utf-8", newline="\n", errors="surrogatepass")
        os.replace(temporary, target)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if active():
            return _Call(self).run(*args, **kwargs)
        if self._compiled is None:
            from stager.compiler import compile

            self._compiled = compile(self)
        return self._compiled(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return import_, (self.text, _classes(self.record))

    def __repr__(self) -> str:
        types = ", ".join(map(str, self.graph.input_types))
        return f"<exported {self.__name__}({types})>"


def _with_captured(record: Record, captured: dict[str, Any]) -> Record:
    from dataclasses import replace

    return replace(record, captured={name: np.asarray(captured[name]) for name in record.captured})


def _classes(record: Record) -> tuple[type, ...]:
    """The container classes that a record names."""
    found: dict[type, None] = {}
    todo = [record.structure, record.result_structure]
    while todo:
        s = todo.pop()
        todo.extend(s.children)
        if s.kind in ("namedtuple", "dataclass", "registered") and s.cls is not None:
            found[s.cls] = None
    return tuple(found)


# -- calling -----------------------------------------------------------------------------------------------------------


class _Call:
    """One call under a trace: arguments to raw values, the graph's ops bound, results built."""

    def __init__(self, exported: Exported) -> None:
        self.exported = exported
        self.record = exported.record
        self.dims: dict[str, Dim] = {}

    def run(self, *args: Any, **kwargs: Any) -> Any:
        from stager.array import wrap
        from stager.committed import commit_carried
        from stager.ops.regions import replay

        handles = [*self._arguments(args, kwargs), *self._captured()]
        graph = self.record.graph
        given = [h for h in handles if h is not None]
        raws = [self._fitted(h, v.type, n) for n, (h, v) in enumerate(zip(given, graph.inputs, strict=True))]
        self._check_guards()
        outputs = replay(graph, raws)
        for place, output in self.record.writes:
            handles[place].write(outputs[output])
            commit_carried(handles[place].cell)  # a loop works where the caller's array lies
        made: dict[int, Any] = {}

        def output_handle(index: int, weak: bool = False) -> Any:
            if index not in made:
                made[index] = wrap(outputs[index], weak)
            return made[index]

        return unflatten(
            self.record.result_structure, [self._result(r, handles, output_handle) for r in self.record.results]
        )

    def _result(self, r: ResultRecord, handles: list[Any], output: Callable[..., Any]) -> Any:
        if r.kind == "static":
            return r.value
        if r.kind == "value":
            return output(r.index, r.python)
        found = output(r.index) if r.kind == "view_output" else handles[r.index]
        for op, params in r.path:
            found = found.view_by(op, **{k: substitute(v, self.dims) for k, v in params.items()})
        return found

    # -- arguments -----------------------------------------------------------------------------------------------------

    def _arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """A handle per leaf, None for static ones."""
        from stager.array import Array, as_array

        bound = self.exported.__signature__.bind(*args, **kwargs)
        bound.apply_defaults()
        leaves, structure = flatten((bound.args, bound.kwargs))
        wanted = self.record.structure
        if structure != wanted:
            name = self.record.name
            raise UnsupportedError(describe(f"{name} was exported for arguments {wanted}, not {structure}"))
        handles: list[Any] = []
        for n, (leaf, x) in enumerate(zip(self.record.leaves, leaves, strict=True)):
            if leaf.kind != "static":
                handles.append(as_array(x))
                continue
            if type(leaf.value) is int and type(x) is Array:
                x = int(x)  # code that depends on it is made for this value
            if type(x) is not type(leaf.value) or x != leaf.value:
                text = f"{self.record.name} was exported with {leaf.value!r} as argument leaf {n}, not {x!r}"
                raise UnsupportedError(describe(text, remedy="export the function once more for it"))
            handles.append(None)
        return handles

    def _captured(self) -> list[Any]:
        """Handles of the captured arrays: read anew at each call, as those of any function are."""
        from stager.array import as_array
        from stager.capture import current

        session, owner = current(), self.exported
        if session is None:
            return [as_array(owner.captured[name]) for name in self.record.captured]
        if session.path_of(owner) is None:
            session.add_root(owner)
        captured = session.attribute(owner, "captured", owner.captured)
        return [as_array(session.item(captured, name)) for name in self.record.captured]

    def _fitted(self, handle: Any, t: Type, n: int) -> Any:
        """The raw value of an argument of this type; its sizes define the symbols."""
        from stager.ops.elementwise import convert

        value = handle.raw()
        came = value.type
        if handle.weak and not came.shape and not t.shape and (t.dtype.is_float or came.dtype.is_integer):
            value = value if came.dtype is t.dtype else convert(value, dtype=t.dtype)
            return value
        what = f"{self.record.name} was exported for {t} as array {n}"
        if came.dtype is not t.dtype:
            raise DTypeError(describe(f"{what}, not {came}", remedy="convert the array, or export the function again"))
        if len(came.shape) != len(t.shape) or not all(map(self._same, t.shape, came.shape)):
            raise ShapeError(describe(f"{what}, not {came}", remedy="export it with a symbol for that size: 'f64[n]'"))
        return value

    def _same(self, wanted: Dim, came: Dim) -> bool:
        if isinstance(wanted, Expr):
            ((monomial, _),) = wanted.terms
            symbol = monomial[0][0]
            assert isinstance(symbol, Sym)
            wanted = self.dims.setdefault(symbol.name, came)
        return wanted == came or (isinstance(came - wanted, Expr) and _decide("==", came, wanted))

    def _check_guards(self) -> None:
        for d, low, high in self.record.guards:
            now = substitute(d, self.dims)
            if not (_decide(">=", now, low) and _decide("<=", now, high)):
                sizes = ", ".join(f"{name} = {value}" for name, value in self.dims.items())
                text = f"{self.record.name} was exported for sizes with {low} <= {d} <= {high}, not for {sizes}"
                raise ShapeError(describe(text, remedy="export the function once more for such sizes"))


def _decide(op: str, left: Dim, right: Dim) -> bool:
    from stager.symbols import decide

    return decide(op, left, right)


# -- the public functions ----------------------------------------------------------------------------------------------


def export(f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Exported:
    """The graph of a function as something to save, load and transform again.

    args and kwargs say what it takes: arrays, numbers, or types as text ('f64[n,3]', whose names are sizes left open),
    in any nesting. Captured arrays travel with it; other captured values are as they are now. ExportError for what a
    text cannot hold.

    >>> import numpy as np, stager as st
    >>> saved = st.export(lambda w, x: np.tanh(x @ w).sum(), "f64[3]", "f64[n,3]").text
    >>> loaded = st.import_(saved)
    >>> loaded(np.zeros(3), np.ones((5, 3)))
    np.float64(0.0)
    >>> st.grad(loaded)(np.zeros(3), np.ones((5, 3)))
    array([5., 5., 5.])
    """
    from stager.aot.functions import plain_function
    from stager.binding import bind, signature_of
    from stager.capture.session import path_text

    fn = plain_function(f)
    signature = signature_of(fn)
    bound = bind(fn, signature, args, kwargs)
    keywords = bound.kwargs  # an exported transform takes by keyword what it was exported with by keyword
    taken = [q.replace(kind=q.KEYWORD_ONLY) if q.name in keywords and q.kind is q.POSITIONAL_OR_KEYWORD else q
             for q in signature.parameters.values() if q.name in bound.arguments or q.default is q.empty]  # fmt: skip
    parameters = _parameters(signature.replace(parameters=taken))
    traced = _traced(fn, bound)
    graph = traced.graph
    _refuse_python(graph)
    leaves = tuple(
        [
            LeafRecord("static", leaf.value) if leaf.input is None or leaf.specialized else LeafRecord(leaf.kind)
            for leaf in traced.leaves[: traced.arguments]
        ]
    )
    captured = _named([(path_text(path), leaf.value) for path, leaf in traced.session.hidden])
    results = tuple([_result_record(r) for r in traced.results])
    assert traced.stage is not None
    record = Record(
        graph.name, parameters, traced.structure, leaves, captured, results, traced.result_structure,
        tuple(traced.writes), tuple(traced.stage.dim_guards), graph,
    )  # fmt: skip
    return Exported(read(write(record), _classes(record)))  # what cannot be read again is found out here


def import_(source: str | os.PathLike[str], containers: Sequence[type] = ()) -> Exported:
    """The function that `export` saved: a path, or the text itself.

    containers: the namedtuples, dataclasses and registered classes that its arguments or results use. Loading runs
    nothing that the text says. ExportError when it is damaged, or newer than this stager.
    """
    if isinstance(source, str) and "\n" in source:
        return Exported(read(source, containers))
    try:
        text = Path(source).read_text(encoding="utf-8", errors="surrogatepass")
    except UnicodeDecodeError:
        raise ExportError(f"{os.fspath(source)} is not the text of an exported function") from None
    return Exported(read(text, containers))


def _traced(fn: Callable[..., Any], bound: inspect.BoundArguments) -> Any:
    """A trace on arrays of zeros: nothing of the given arrays but their types gets into the graph."""
    from stager.leaves import classify, leaf_type
    from stager.tracing import trace
    from stager.transforms.shapes import stand_in

    leaves, structure = flatten((bound.args, bound.kwargs))
    types: list[Any] = []
    for n, x in enumerate(leaves):
        t = x if isinstance(x, Type) else parse_type(x) if isinstance(x, str) and "[" in x else None
        if t is None and classify(x) == "array":
            t = leaf_type(x)
        types.append(t)
        if t is not None:
            leaves[n] = stand_in(t)
    static: frozenset[int] = frozenset()
    while True:
        a, k = unflatten(structure, leaves)
        traced = trace(fn, a, k, name=getattr(fn, "__name__", "main"), types=types, static=static,
                       by_type=any(t is not None and symbols_of(t) for t in types))  # fmt: skip
        needed = {n for n, leaf in enumerate(traced.leaves) if leaf.specialized}
        if not needed:
            return traced
        static |= needed


def _named(arrays: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Captured arrays by the text of where they stood; numbered where two texts are equal."""
    found: dict[str, Any] = {}
    for text, array in arrays:
        name, k = text, 2
        while name in found:
            name, k = f"{text} ({k})", k + 1
        found[name] = np.array(array)
    return found


def _result_record(r: Any) -> ResultRecord:
    path = tuple([(step.op, step.params) for step in r.path])
    return ResultRecord(r.kind, r.owner if r.kind == "view_output" else r.index, path, r.value, r.python)


def _parameters(signature: inspect.Signature) -> tuple[Parameter, ...]:
    """A default that the text does not hold has to be passed at each call, and so do those of the positions before."""
    found: list[Parameter] = []
    required = False
    for p in reversed(list(signature.parameters.values())):
        positional = p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        kept = p.default is None or type(p.default) in (bool, int, float, complex, str)
        required = required or (positional and not kept)
        found.append(Parameter(p.name, int(p.kind), p.default if kept and not (positional and required) else REQUIRED))
    return tuple(reversed(found))


def _refuse_python(graph: Graph) -> None:
    """Nodes that hold Python functions have no text."""
    for node in graph.nodes:
        if any(callable(v) and not isinstance(v, Type) for v in node.params.values()):
            where = f", at {node.loc}" if node.loc is not None else ""
            raise ExportError(f"the op {node.op.name} calls a Python function{where}, which a text cannot hold")
        for region in node.regions:
            _refuse_python(region)


__all__ = ["ExportError", "Exported", "export", "import_"]
