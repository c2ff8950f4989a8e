"""Writing MLIR text: SSA names, blocks, types, index arithmetic for dims, and `linalg.generic`.

A `Writer` belongs to one function. It knows nothing of ops; what it gives them is names of values that hold at the
place where it stands (index constants and dims are remembered per block, so that they dominate their uses).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from stager.ir.dims import Apply, Dim, Expr, Sym
from stager.ir.dtypes import DType
from stager.ir.types import Type


class Scalar(NamedTuple):
    """An SSA value of an element type."""

    name: str
    dtype: DType


class Tensor(NamedTuple):
    """An SSA value that is the array of a type. Scalars of the graph are tensors of rank 0."""

    name: str
    type: Type


def element(dtype: DType) -> str:
    """The MLIR type of an element; integers are signless, the ops know their signs."""
    return "i1" if dtype.kind == "b" else f"{'f' if dtype.kind == 'f' else 'i'}{dtype.bits}"


def tensor(t: Type) -> str:
    """The MLIR type of an array; symbolic dims are dynamic."""
    dims = "".join(f"{d if isinstance(d, int) else '?'}x" for d in t.shape)
    return f"tensor<{dims}{element(t.dtype)}>"


class Writer:
    """Appends lines to one function."""

    def __init__(self, externals: dict[str, str]) -> None:
        self.lines: list[str] = []
        self.externals = externals  # functions of the module that are declared only: name -> declaration
        self.before_empty: Callable[[Type], None] = lambda t: None  # called where an array is made
        self._indent = 2
        self._count = 0
        self._known: list[dict[object, str]] = [{}]
        self._symbols: list[dict[str, str]] = [{}]

    # -- lines -----------------------------------------------------------------------------------------------------

    def put(self, text: str) -> None:
        self.lines.append("  " * self._indent + text)

    def fresh(self, stem: str = "v") -> str:
        self._count += 1
        return f"%{stem}{self._count}"

    def op(self, text: str) -> str:
        """A line with one result; its name."""
        name = self.fresh()
        self.put(f"{name} = {text}")
        return name

    def ops(self, text: str, results: int) -> list[str]:
        """A line with any number of results; their names."""
        if results == 0:
            self.put(text)
            return []
        name = self.fresh()
        if results == 1:
            self.put(f"{name} = {text}")
            return [name]
        self.put(f"{name}:{results} = {text}")
        return [f"{name}#{k}" for k in range(results)]

    @contextmanager
    def block(self) -> Iterator[None]:
        """Lines of a nested block: indented, and what they define is forgotten behind it."""
        self._indent += 1
        self._known.append({})
        self._symbols.append({})
        yield
        self._symbols.pop()
        self._known.pop()
        self._indent -= 1

    @contextmanager
    def isolated(self) -> Iterator[None]:
        """A region whose symbols are its own: those of the graph around it are hidden."""
        hidden, self._symbols = self._symbols, [{}]
        known, self._known = self._known, [{k: v for scope in self._known for k, v in scope.items() if type(k) is int}]
        yield
        self._symbols, self._known = hidden, known

    # -- indices ---------------------------------------------------------------------------------------------------

    def define_symbol(self, name: str, index: str) -> None:
        self._symbols[-1][name] = index

    def _remembered(self, key: object, make: Callable[[], str]) -> str:
        for scope in reversed(self._known):
            if key in scope:
                return scope[key]
        name = make()
        self._known[-1][key] = name
        return name

    def index(self, value: int) -> str:
        """An index constant."""
        return self._remembered(value, lambda: self.op(f"arith.constant {value} : index"))

    def dim(self, d: Dim) -> str:
        """The run-time value of a dim, as an index."""
        if not isinstance(d, Expr):
            return self.index(d)
        return self._remembered(d, lambda: self._expression(d))

    def _expression(self, d: Expr) -> str:
        total: str | None = None
        for monomial, coefficient in d.terms:
            factors = [self._atom(atom) for atom, power in monomial for _ in range(power)]
            if coefficient != 1 or not factors:
                factors.insert(0, self.index(coefficient))
            product = factors[0]
            for factor in factors[1:]:
                product = self.arith("muli", product, factor)
            total = product if total is None else self.arith("addi", total, product)
        assert total is not None
        return total

    def _atom(self, atom: Sym | Apply) -> str:
        if isinstance(atom, Sym):
            for scope in reversed(self._symbols):
                if atom.name in scope:
                    return scope[atom.name]
            raise KeyError(f"the symbol {atom.name} has no value here")
        a, b = self.dim(atom.a), self.dim(atom.b)
        if atom.fn == "mod":
            quotient = self.arith("floordivsi", a, b)
            return self.arith("subi", a, self.arith("muli", quotient, b))
        return self.arith({"floordiv": "floordivsi", "max": "maxsi", "min": "minsi"}[atom.fn], a, b)

    def arith(self, name: str, a: str, b: str) -> str:
        return self.op(f"arith.{name} {a}, {b} : index")

    def to_index(self, x: Scalar) -> str:
        return self.op(f"arith.index_cast {x.name} : {element(x.dtype)} to index")

    def from_index(self, index: str, dtype: DType) -> Scalar:
        return Scalar(self.op(f"arith.index_cast {index} : index to {element(dtype)}"), dtype)

    # -- tensors ---------------------------------------------------------------------------------------------------

    def empty(self, t: Type) -> Tensor:
        dynamic = ", ".join(self.dim(d) for d in t.shape if isinstance(d, Expr))
        self.before_empty(t)
        return Tensor(self.op(f"tensor.empty({dynamic}) : {tensor(t)}"), t)

    def extract(self, x: Tensor, at: Sequence[str] = ()) -> Scalar:
        return Scalar(self.op(f"tensor.extract {x.name}[{', '.join(at)}] : {tensor(x.type)}"), x.type.dtype)

    def insert(self, x: Tensor, value: Scalar, at: Sequence[str]) -> Tensor:
        text = f"tensor.insert {value.name} into {x.name}[{', '.join(at)}] : {tensor(x.type)}"
        return Tensor(self.op(text), x.type)

    def of_scalar(self, x: Scalar) -> Tensor:
        t = Type(x.dtype, ())
        return Tensor(self.op(f"tensor.from_elements {x.name} : {tensor(t)}"), t)

    def cast(self, x: Tensor, t: Type) -> Tensor:
        """The same array under a type that knows more or less of its dims."""
        if tensor(x.type) == tensor(t):
            return Tensor(x.name, t)
        return Tensor(self.op(f"tensor.cast {x.name} : {tensor(x.type)} to {tensor(t)}"), t)

    def filled(self, value: Scalar, t: Type) -> Tensor:
        out = self.empty(t)
        text = f"linalg.fill ins({value.name} : {element(t.dtype)}) outs({out.name} : {tensor(t)}) -> {tensor(t)}"
        return Tensor(self.op(text), t)

    def slice(self, x: Tensor, starts: Sequence[Dim], sizes: Sequence[Dim], steps: Sequence[int]) -> Tensor:
        t = Type(x.type.dtype, tuple(sizes))
        text = f"tensor.extract_slice {x.name}{self._box(starts, sizes, steps)} : {tensor(x.type)} to {tensor(t)}"
        return Tensor(self.op(text), t)

    def insert_slice(
        self, x: Tensor, value: Tensor, starts: Sequence[Dim | str], sizes: Sequence[Dim], steps: Sequence[int]
    ) -> Tensor:
        """`value` may lack axes of size 1."""
        box = self._box(starts, sizes, steps)
        text = f"tensor.insert_slice {value.name} into {x.name}{box} : {tensor(value.type)} into {tensor(x.type)}"
        return Tensor(self.op(text), x.type)

    def _box(self, starts: Sequence[Dim | str], sizes: Sequence[Dim], steps: Sequence[int]) -> str:
        def one(d: Dim | str) -> str:
            return d if isinstance(d, str) else str(d) if isinstance(d, int) else self.dim(d)

        return f"[{', '.join(map(one, starts))}] [{', '.join(map(one, sizes))}] [{', '.join(map(str, steps))}]"

    # -- loops -----------------------------------------------------------------------------------------------------

    def generic(
        self,
        ins: Sequence[tuple[Tensor, str]],
        outs: Sequence[tuple[Tensor, str]],
        body: Callable[[list[Scalar], list[Scalar]], Sequence[Scalar]],
        loops: int,
        reductions: Sequence[int] = (),
    ) -> list[Tensor]:
        """linalg.generic over `loops` dims; operands come with the results of their indexing maps ("d0, d1")."""
        dims = ", ".join(f"d{k}" for k in range(loops))
        maps = ", ".join(f"affine_map<({dims}) -> ({m})>" for _, m in (*ins, *outs))
        kinds = ", ".join('"reduction"' if k in reductions else '"parallel"' for k in range(loops))
        taken = f" ins({_operands([x for x, _ in ins])})" if ins else ""
        types = ", ".join(tensor(x.type) for x, _ in outs)
        head = f"linalg.generic {{indexing_maps = [{maps}], iterator_types = [{kinds}]}}{taken}"
        results = self.ops(f"{head} outs({_operands([x for x, _ in outs])}) {{", len(outs))
        with self.block():
            inner = [Scalar(self.fresh("a"), x.type.dtype) for x, _ in (*ins, *outs)]
            self.put(f"^bb0({', '.join(f'{s.name}: {element(s.dtype)}' for s in inner)}):")
            yielded = body(inner[: len(ins)], inner[len(ins) :])
            self._end("linalg.yield", [y.name for y in yielded], [element(y.dtype) for y in yielded])
        self.put(f"}} -> {types}" if len(outs) == 1 else f"}} -> ({types})")
        return [Tensor(name, x.type) for name, (x, _) in zip(results, outs, strict=True)]

    def compute(self, t: Type, body: Callable[[list[str]], Scalar]) -> Tensor:
        """The array whose element at each position (a list of indices) is what `body` makes."""
        dims = ", ".join(f"d{k}" for k in range(t.ndim))

        def at(_: list[Scalar], __: list[Scalar]) -> list[Scalar]:
            return [body([self.op(f"linalg.index {k} : index") for k in range(t.ndim)])]

        return self.generic([], [(self.empty(t), dims)], at, t.ndim)[0]

    def for_loop(
        self,
        lower: str,
        upper: str,
        carries: Sequence[tuple[str, str]],
        body: Callable[[str, list[str]], Sequence[str]],
    ) -> list[str]:
        """scf.for by steps of one; carries are (name, type), the body returns their next names."""
        types = [t for _, t in carries]
        i = self.fresh("i")
        inner = [self.fresh("c") for _ in carries]
        init = ", ".join(f"{c} = {x}" for c, (x, _) in zip(inner, carries, strict=True))
        step = self.index(1)
        args = f" iter_args({init}) -> ({', '.join(types)})" if carries else ""
        results = self.ops(f"scf.for {i} = {lower} to {upper} step {step}{args} {{", len(carries))
        with self.block():
            self._end("scf.yield", body(i, inner), types)
        self.put("}")
        return results

    def while_loop(
        self,
        carries: Sequence[tuple[str, str]],
        cond: Callable[[list[str]], tuple[str, Sequence[str]]],
        body: Callable[[list[str]], Sequence[str]],
    ) -> list[str]:
        """scf.while: cond gives an i1 and the carries as the body sees them, body the next carries."""
        types = [t for _, t in carries]
        before = [self.fresh("c") for _ in carries]
        after = [self.fresh("c") for _ in carries]
        init = ", ".join(f"{c} = {x}" for c, (x, _) in zip(before, carries, strict=True))
        listed = ", ".join(types)
        results = self.ops(f"scf.while ({init}) : ({listed}) -> ({listed}) {{", len(carries))
        with self.block():
            going, passed = cond(before)
            self._end(f"scf.condition({going})", passed, types)
        self.put("} do {")
        with self.block():
            self.put(f"^bb0({', '.join(f'{a}: {t}' for a, t in zip(after, types, strict=True))}):")
            self._end("scf.yield", body(after), types)
        self.put("}")
        return results

    def branch(
        self,
        condition: str,
        types: Sequence[str],
        then: Callable[[], Sequence[str]],
        other: Callable[[], Sequence[str]],
    ) -> list[str]:
        """scf.if with results."""
        results = self.ops(f"scf.if {condition} -> ({', '.join(types)}) {{", len(types))
        with self.block():
            self._end("scf.yield", then(), types)
        self.put("} else {")
        with self.block():
            self._end("scf.yield", other(), types)
        self.put("}")
        return results

    def when(self, condition: str, then: Callable[[], object]) -> None:
        """scf.if without results."""
        self.put(f"scf.if {condition} {{")
        with self.block():
            then()
        self.put("}")

    def _end(self, terminator: str, names: Sequence[str], types: Sequence[str]) -> None:
        self.put(f"{terminator} {', '.join(names)} : {', '.join(types)}" if names else terminator)

    yields = _end

    def call(self, name: str, args: Sequence[tuple[str, str]], results: Sequence[str]) -> list[str]:
        """A call of an external function, which is declared at the end of the module."""
        types = ", ".join(t for _, t in args)
        returned = f"({', '.join(results)})" if len(results) != 1 else results[0]
        self.externals.setdefault(name, f"func.func private @{name}({types}) -> {returned}")
        text = f"func.call @{name}({', '.join(a for a, _ in args)}) : ({types}) -> {returned}"
        return self.ops(text, len(results))


def _operands(xs: Sequence[Tensor]) -> str:
    return f"{', '.join(x.name for x in xs)} : {', '.join(tensor(x.type) for x in xs)}"
