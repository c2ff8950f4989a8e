"""`compile`: a function that runs as machine code, specialised on the types of its arguments.

The object it returns is native (`stager.runtime.function`): its entries check the arguments and jump to the code. What
no entry takes comes to `Compiler.miss` here, which traces, compiles and adds an entry.
"""

from __future__ import annotations

import functools
import inspect
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, overload

import numpy as np

from stager import guards
from stager.binding import Bound, bind, parts_of, signature_of
from stager.collector import uncollected
from stager.dynamic import dynamic_types
from stager.errors import StagerError
from stager.interpreters.stack import active
from stager.ir.abi import OutputAbi
from stager.ir.core_ops import constant_op
from stager.ir.dims import Dim, contiguous_strides, substitute, symbol
from stager.ir.graph import Graph
from stager.leaves import Leaf
from stager.pipeline import BACKENDS, Executable, executable
from stager.runtime import patterns as p
from stager.runtime.structure import Structure, flatten, one_level
from stager.stand_ins import (
    disentangled,
    plain_arrays,
    refuse_captured_stretch,
    refuse_overlap,
    through_copies,
)
from stager.tracebacks import trimmed
from stager.tracing import Traced, trace

MOST_ENTRIES = 256  # specialisations of one function that are kept


class Compiler:
    """What stands behind one compiled function: its options, its traces, and why it compiled."""

    def __init__(
        self,
        fn: Callable[..., Any],
        freeze: bool = False,
        threads: int = 0,
        dynamic: Any = None,
        backend: str = "native",
    ) -> None:
        self.fn = fn
        self.backend = backend
        self.dynamic = dynamic
        self.freeze = freeze
        self.threads = threads
        self.signature = signature_of(fn)
        self.parts = parts_of(fn)
        self.lock = threading.RLock()
        self.history: list[Compilation] = []
        self.writes = False  # whether a specialisation writes into its arguments

    # -- a call that no entry takes ------------------------------------------------------------------------------

    def miss(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer a call natively after all: trace, compile, add an entry; odd arrays are made plain first."""
        from stager.runtime.function import RETRY

        if active():  # called while something else is traced: part of that trace
            from stager.transforms.calling import call_user

            return call_user(self.fn, args, kwargs)
        self._follow(function)
        bound = self.bind(args, kwargs)
        plain, originals = plain_arrays(bound)
        if not originals and self.writes:
            plain, originals = disentangled(bound)
        if originals:
            return through_copies(function, plain, originals)
        try:
            with self.lock:
                self._add(function, bound, self._why(bound))
        except StagerError as e:
            raise trimmed(e) from e.__cause__
        plain, originals = disentangled(bound) if self.writes else (bound, [])
        return through_copies(function, plain, originals) if originals else RETRY

    def _follow(self, function: Any) -> None:
        """The signature of the function as it is now: defaults and code may have been assigned."""
        from stager.runtime.function import clear_entries, set_signature

        parts = parts_of(self.fn)
        if len(parts) == len(self.parts) and all(a is b for a, b in zip(parts, self.parts, strict=True)):
            return
        with self.lock:
            before, now = self.signature, signature_of(self.fn)
            if [(q.name, q.kind) for q in before.parameters.values()] != [
                (q.name, q.kind) for q in now.parameters.values()
            ]:
                clear_entries(function)
                self.history.clear()
            self.signature, self.parts = now, parts
            set_signature(function, now)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Bound:
        """A call's arguments by parameter. TypeError when they do not fit."""
        return bind(self.fn, self.signature, args, kwargs)

    def _why(self, bound: Bound) -> str:
        if not self.history:
            return "first call"
        return self.history[-1].difference(bound)

    def _add(self, function: Any, bound: Bound, reason: str) -> None:
        from stager.runtime.function import add_entry, clear_entries

        made = self.compile(bound, reason)
        if len(self.history) >= MOST_ENTRIES:  # a function of ever new types: the oldest specialisations go
            del self.history[: MOST_ENTRIES // 2]
            clear_entries(function)
            for kept in self.history:
                add_entry(function, kept.spec)
        add_entry(function, made.spec)
        self.history.append(made)

    def trace(self, bound: Bound, called: bool = False) -> Traced:
        """The trace of a call. called: it is under way, and what it writes before an exception stays."""
        types: Any = dynamic_types(self.dynamic, bound) if self.dynamic else None
        if types is None:
            return self._trace(bound, None, called)
        try:
            return self._trace(bound, types)
        except (StagerError, TypeError, ValueError, IndexError) as e:  # it may need sizes that symbols do not have
            traced = self._trace(bound, None, called)
            code = getattr(inspect.unwrap(self.fn), "__code__", None)
            place = (code.co_filename, code.co_firstlineno) if code is not None else ("", 0)
            traced.session.declined.append((*place, f"sizes stay those of the call: {' '.join(str(e).split())}"))
            return traced

    def _trace(self, bound: Bound, types: Any, called: bool = False) -> Traced:
        name = getattr(self.fn, "__name__", "main")
        static: frozenset[int] = frozenset()
        while True:
            traced = trace(self.fn, bound.args, bound.kwargs, name=name, static=static, freeze=self.freeze, types=types,
                           called=called, packs=True, commits=True)  # fmt: skip
            needed = {i for i, leaf in enumerate(traced.leaves) if leaf.specialized}
            if not needed:
                break
            static |= needed  # ints whose value the code needed: traced again with them as guards
        _set_signature(traced)
        refuse_captured_stretch(traced)
        refuse_overlap(traced)
        self.writes |= bool(traced.writes)
        return traced

    def compile(self, bound: Bound, reason: str) -> Compilation:
        """Trace and compile a call."""
        start = time.perf_counter()
        with uncollected:
            traced = self.trace(bound, called=True)
            if not self.freeze:
                _warn_of_constants(traced.graph)
            traced_at = time.perf_counter()
            code = executable(traced.graph, backend=self.backend)
        code.times["trace"] = traced_at - start
        return Compilation(self, traced, code, bound, reason)


LARGE = 1 << 20  # bytes of a constant


def _warn_of_constants(graph: Graph) -> None:
    """Arrays that calls unseen by stager made while tracing are copied into the code, as they are now, for good."""
    for node in graph.nodes:
        if node.op is constant_op and node.params["value"].nbytes > LARGE:
            size = f"{node.params['value'].nbytes / LARGE:.1f} MiB"
            text = f"an array of {size} that was made while tracing is a constant of the compiled code\n  at {node.loc}"
            remedy = "\n  remedy: make it outside of the function, or pass it as an argument; freeze=True allows it"
            warnings.warn(text + remedy, RuntimeWarning, stacklevel=2)


class Compilation:
    """One specialisation: its code and how arguments and results map to it. Keeps no argument alive."""

    def __init__(
        self, compiler: Compiler, traced: Traced, code: Executable, bound: Bound, reason: str
    ) -> None:
        self.code = code
        self.reason = reason
        self.structure = traced.structure
        self.types = tuple([_leaf_text(leaf) for leaf in traced.leaves])
        self.arguments = traced.arguments
        self.declined = list(traced.session.declined)
        self.loops = [] if traced.stage is None else list(traced.stage.loops)
        self.spec = _Mapping(traced, code, bound).entry_spec(compiler)

    def difference(self, bound: Bound) -> str:
        """Why a call does not fit this specialisation, in words."""
        leaves, structure = flatten((bound.args, bound.kwargs))
        if structure != self.structure:
            return f"the structure of the arguments changed from {self.structure} to {structure}"
        for i, (before, x) in enumerate(zip(self.types[: self.arguments], leaves, strict=True)):
            text = _leaf_text(Leaf("?", x))
            if text != before:
                return f"argument leaf {i} changed from {before} to {text}"
        return "a captured value or an array's memory layout changed"


class _Mapping:
    """From one trace to the entry's tables."""

    def __init__(self, traced: Traced, code: Executable, bound: Bound) -> None:
        self.traced = traced
        self.code = code
        self.bound = bound

    def entry_spec(self, compiler: Compiler) -> Any:
        """What the native entry checks and builds."""
        from stager.runtime.entries import EntrySpec
        from stager.runtime.entry_programs import bound_parameters

        traced = self.traced
        sources: dict[int, p.Source] = {}
        inputs = {leaf.input: k for k, leaf in enumerate(x for x in traced.leaves if x.input is not None)}
        walker = PatternWalker(traced.leaves[: traced.arguments], inputs, sources)
        named = {q.name: i for i, q in enumerate(bound_parameters(compiler.signature))}
        patterns: list[Any] = [None] * len(named)
        varargs: tuple[Any, ...] = ()
        varkw: tuple[tuple[str, Any], ...] = ()
        for name, value in self.bound.arguments.items():
            kind = compiler.signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                varargs = tuple([walker.pattern(flatten(v)[1], None) for v in value])
            elif kind is inspect.Parameter.VAR_KEYWORD:
                varkw = tuple([(k, walker.pattern(flatten(v)[1], None)) for k, v in value.items()])
            else:
                patterns[named[name]] = walker.pattern(flatten(value)[1], p.Parameter(named[name]))
        for name, i in named.items():
            if patterns[i] is None:
                patterns[i] = p.Is(compiler.signature.parameters[name].default)
        hidden, absent = guards.hidden(traced, inputs, sources, compiler.signature)
        abi, result = self._results(sources)
        return EntrySpec(abi, self.code.address, tuple(patterns), result, varargs=varargs, varkw=varkw, hidden=hidden,
                         absent=absent, dim_guards=_dim_guards(traced, self._names()),
                         forms={r.index: "python" for r in traced.results if r.python},
                         threads=compiler.threads, positional=self.bound.positional,
                         keepalive=(self.code,))  # fmt: skip

    def _names(self) -> dict[str, Dim]:
        """The symbols of the ABI for those of the graph: code that was found may have been made for other names."""
        given = {(s.kind, s.input, s.axis): s.name for s in self.code.abi.symbols}
        found = {name: given.get((d.kind, d.source, d.axis)) for name, d in self.traced.graph.symbols.items()}
        return {name: symbol(other) for name, other in found.items() if other is not None and other != name}

    def _results(self, sources: dict[int, p.Source]) -> tuple[Any, p.Result]:
        """The ABI with views as outputs of their own, and the tree that builds the result."""
        traced, abi, names = self.traced, self.code.abi, self._names()

        extra: list[OutputAbi] = []
        position = {
            leaf_index: k for k, leaf_index in enumerate(i for i, x in enumerate(traced.leaves) if x.input is not None)
        }
        leaves: list[p.Result] = []
        for r in traced.results:
            if r.kind == "static":
                leaves.append(p.Fixed(r.value))
            elif r.kind == "value":
                leaves.append(p.Output(r.index))
            elif r.kind == "input":
                if r.index in sources:
                    leaves.append(p.Passed(sources[r.index]))
                else:  # inside a container that Python opens: no path leads there, the argument's buffer does
                    leaves.append(p.Output(len(abi.outputs) + len(extra)))
                    own = substitute(traced.leaves[r.index].array.type, names)  # type: ignore[union-attr]
                    extra.append(OutputAbi(own, "input", position[r.index]))
            else:
                assert r.layout is not None
                kind, source = ("view_input", position[r.index]) if r.kind == "view" else ("view_output", r.owner)
                leaves.append(p.Output(len(abi.outputs) + len(extra)))
                offset, strides = substitute(r.layout.offset, names), substitute(r.layout.strides, names)
                extra.append(OutputAbi(substitute(r.layout.type, names), kind, source, offset, strides))
        return replace(abi, outputs=(*abi.outputs, *extra)), result_tree(traced.result_structure, iter(leaves))


class PatternWalker:
    """Patterns of argument structures, leaf by leaf; notes the source of each leaf."""

    def __init__(self, leaves: list[Leaf], inputs: dict[Any, int], sources: dict[int, p.Source]) -> None:
        self.leaves = leaves
        self.inputs = inputs
        self.sources = sources
        self.next = 0

    def pattern(self, s: Structure, source: p.Source | None) -> p.Pattern:
        match s.kind:
            case "leaf":
                return self._leaf(source)
            case "none":
                return p.Is(None)
            case "tuple" | "namedtuple":
                items = [
                    self.pattern(c, None if source is None else p.Item(source, i)) for i, c in enumerate(s.children)
                ]
                return p.TupleOf(tuple(items), s.cls or tuple)
            case "list":
                return p.ListOf(
                    tuple(
                        [
                            self.pattern(c, None if source is None else p.Item(source, i))
                            for i, c in enumerate(s.children)
                        ]
                    )
                )
            case "dict" if s.cls is dict:
                return p.DictOf(tuple([(k, self.pattern(c, None if source is None else p.Item(source, k)))
                                       for k, c in zip(s.keys, s.children, strict=True)]))  # type: ignore[call-overload]  # fmt: skip
            case "dataclass":
                return p.Attributes(s.cls, tuple([(k, self.pattern(c, source and p.Attribute(source, k)))
                                                  for k, c in zip(s.keys, s.children, strict=True)]))  # type: ignore[call-overload]  # fmt: skip
        return self._opened(s)

    def _opened(self, s: Structure) -> p.Pattern:
        """Registered classes and OrderedDicts: opened by Python, then matched as a tuple (keys, children)."""
        items = [self.pattern(c, None) for c in s.children]
        assert s.cls is not None
        return p.Opened(s.cls, opened_container, p.TupleOf((p.Equal(s.keys), *items)))

    def _leaf(self, source: p.Source | None) -> p.Pattern:
        index, leaf = self.next, self.leaves[self.next]
        self.next += 1
        if source is not None:
            self.sources[index] = source
        if leaf.input is None or leaf.specialized:
            return _static_pattern(leaf.value)
        if leaf.kind == "array":
            return p.Leaf(self.inputs[leaf.input], "array" if isinstance(leaf.value, np.ndarray) else "scalar")
        return p.Leaf(self.inputs[leaf.input], leaf.kind)


def opened_container(x: Any) -> tuple[Any, ...]:
    """A container as (keys, *children)."""
    level = one_level(x)
    assert level is not None
    return (level[1], *level[2])


_BY_VALUE = (
    str, bytes, bool, int, float, complex, tuple, frozenset, slice, np.dtype, np.integer, np.bool_, type(None),
)  # fmt: skip


def _static_pattern(x: Any) -> p.Pattern:
    return (
        p.Equal(x)
        if isinstance(x, _BY_VALUE)
        else p.Is(x)
    )


def result_tree(s: Structure, leaves: Any) -> p.Result:
    match s.kind:
        case "leaf":
            out: p.Result = next(leaves)
            return out
        case "none":
            return p.Fixed(None)
    children = tuple([result_tree(c, leaves) for c in s.children])
    match s.kind:
        case "tuple":
            return p.MakeTuple(children)
        case "list":
            return p.MakeList(children)
        case "dict" if s.cls is dict:
            return p.MakeDict(tuple(zip(s.keys, children, strict=True)))  # type: ignore[call-overload]
        case "namedtuple":
            assert s.cls is not None
            return p.Invoke(s.cls, children)
    from stager.runtime.structure import rebuild_one

    return p.Invoke(functools.partial(rebuild_one, s), children)


def _leaf_text(leaf: Leaf) -> str:
    x = leaf.value
    if isinstance(x, np.ndarray):
        text = f"{x.dtype}{list(x.shape)}"
        return text if x.flags.c_contiguous else f"{text} strides {list(x.strides)}"
    if isinstance(x, np.generic):
        return f"scalar {x.dtype}"
    if type(x) is float or (type(x) is int and not leaf.specialized):
        return type(x).__name__
    return repr(x)


def _dim_guards(traced: Traced, names: dict[str, Dim]) -> tuple[Any, ...]:
    """Sizes 0 and 1 behave unlike others (broadcasting, squeezing), so a symbolic dim is at least 2; and what
    comparisons of dims relied on."""
    from stager.runtime.entries import DimGuard

    assert traced.stage is not None
    sizes = [DimGuard(symbol(name), 2) for name, d in traced.graph.symbols.items() if d.kind == "shape"]
    relied = [DimGuard(d, low, high) for d, low, high in traced.stage.dim_guards]
    return tuple([replace(g, dim=substitute(g.dim, names)) for g in (*sizes, *relied)])


def _set_signature(traced: Traced) -> None:
    """What the graph must know of the caller's arrays: layouts and writes."""
    graph = traced.graph
    position = {leaf.input: k for k, leaf in enumerate(x for x in traced.leaves if x.input is not None)}
    for leaf in traced.leaves:
        x = leaf.value
        if (
            leaf.input is not None
            and isinstance(x, np.ndarray)
            and not x.flags.c_contiguous
            and any(
                s != c and d > 1
                for s, c, d in zip(x.strides, contiguous_strides(x.shape, x.itemsize), x.shape, strict=True)
            )
        ):
            graph.signature.layouts[position[leaf.input]] = tuple(x.strides)
    graph.signature.writes = tuple([(position[traced.leaves[i].input], k) for i, k in traced.writes])


# -- the public function ----------------------------------------------------------------------------------------------


@overload
def compile(
    fn: Callable[..., Any], *, threads: int = ..., freeze: bool = ..., dynamic: Any = ..., backend: str = ...
) -> Any: ...
@overload
def compile(
    fn: None = ..., *, threads: int = ..., freeze: bool = ..., dynamic: Any = ..., backend: str = ...
) -> Callable[[Callable[..., Any]], Any]: ...


def compile(
    fn: Callable[..., Any] | None = None,
    *,
    threads: int = 0,
    freeze: bool = False,
    dynamic: Any = None,
    backend: str = "native",
) -> Any:
    """Compile a NumPy function to native code; usable as a decorator, with or without options.

    The first call with new argument types traces `fn` and compiles; later ones go straight to machine code. Arguments
    and results are any nesting of containers around ndarrays and scalars; writes into arguments reach the caller.
    threads: at most this many threads for one call (0: as many as the process may use).
    freeze: captured arrays are constants instead of being read at each call.
    dynamic: compile once for any size. True: every dim of at least 2 of every array argument (dims that are
    equal in the call that traces are one symbol); or a type per parameter, by name or position: {"x": "f64[n,3]"}.
    Sizes 0 and 1, and sizes for which a comparison in the code would come out differently, get code of their own.
    backend: "native", or "mlir": through the `mlir-opt` and `mlir-translate` of LLVM 22, a second and independent way
    to machine code for checking the first (docs/mlir.md). BackendError where those tools are absent.

    >>> import numpy as np, stager as st
    >>> @st.compile
    ... def f(x):
    ...     return np.sqrt(x) + 1
    >>> f(np.array([1.0, 4.0]))
    array([2., 3.])
    """
    if fn is None:
        return functools.partial(compile, threads=threads, freeze=freeze, dynamic=dynamic, backend=backend)
    if not callable(fn):
        raise TypeError(f"compile takes a function, not {type(fn).__name__}")
    if backend not in BACKENDS:
        raise ValueError(f"backend is {' or '.join(map(repr, BACKENDS))}, not {backend!r}")
    from stager.runtime.function import make_function
    from stager.support import install_entry

    install_entry()
    compiler = Compiler(fn, freeze=freeze, threads=threads, dynamic=dynamic, backend=backend)
    function = make_function(
        compiler.miss,
        name=getattr(fn, "__name__", type(fn).__name__),
        qualname=getattr(fn, "__qualname__", None),
        module=getattr(fn, "__module__", None),
        doc=getattr(fn, "__doc__", None),
        signature=compiler.signature,
        wrapped=fn,
        annotations=getattr(fn, "__annotations__", None),
        reduce=reduce_function,
    )
    function.__dict__["__stager__"] = compiler
    return function


def reduce_function(function: Any) -> Any:
    """Pickles a compiled function; see `stager.pickling`."""
    from stager.pickling import reduce

    return reduce(function)


def compiler_of(function: Any) -> Compiler:
    """The Compiler behind a compiled function."""
    found: Compiler = function.__dict__["__stager__"]
    return found
