"""`load`: a Python function of a built library, on the same native entry as compiled functions."""

from __future__ import annotations

import ctypes
import inspect
import json
import os
from dataclasses import replace
from typing import Any

import numpy as np

from stager.aot.build import METADATA_FORMAT
from stager.aot.errors import BuildError
from stager.aot.record import decode_structure
from stager.errors import UnsupportedError, describe
from stager.leaves import Leaf
from stager.runtime import patterns as p
from stager.runtime.structure import flatten, unflatten


def load(path: str | os.PathLike[str], function: str | None = None) -> Any:
    """A function of a built library, as a Python function with native checks of its arguments.

    It takes what the function that was built takes, containers included, and behind that the captured arrays that are
    arguments of the C function; it pickles by the path. function: its name, where the library has several. BuildError
    when the file is no library of stager's.
    """
    from stager.runtime.function import make_function
    from stager.support import install_entry

    path = os.path.abspath(path)
    library, metadata = _opened(path)
    record = _record(metadata, path, function)
    install_entry()
    loaded = _Loaded(path, library, record)
    made = make_function(
        loaded.miss, name=record["name"], signature=loaded.signature, module=record["python"]["module"],
        doc=record["python"]["doc"], reduce=lambda self: (load, (path, record["name"])),
    )  # fmt: skip
    loaded.add_entries(made)
    return made


def _opened(path: str) -> tuple[Any, Any]:
    from stager.codegen.library import METADATA, METADATA_BYTES

    try:
        library = ctypes.CDLL(path)
        size = ctypes.c_int64.in_dll(library, METADATA_BYTES).value
        text = bytes((ctypes.c_char * size).in_dll(library, METADATA))
    except (OSError, ValueError) as e:
        raise BuildError(f"{path} is not a library that stager built: {e}") from None
    metadata = json.loads(text)
    if metadata["format"] != METADATA_FORMAT:
        raise BuildError(f"{path} has format {metadata['format']}; this stager reads {METADATA_FORMAT}")
    if metadata["cpu"] is not None:
        chosen = library[metadata["cpu"]]
        chosen.restype = ctypes.c_char_p
        if chosen() is None:
            cpus = ", ".join(metadata["cpus"])
            raise BuildError(f"{path} was built for {cpus}; this CPU lacks what each of them needs")
    return library, metadata


def _record(metadata: Any, path: str, function: str | None) -> Any:
    by_name = {f["name"]: f for f in metadata["functions"]}
    if function is None and len(by_name) > 1:
        raise BuildError(f"{path} holds {', '.join(by_name)}: say which")
    record = by_name.get(function or next(iter(by_name)))
    if record is None:
        raise BuildError(f"{path} holds {', '.join(by_name)}, not {function!r}")
    if "reason" in record["python"]:
        raise BuildError(f"{record['name']} is for C only: it has {record['python']['reason']}")
    return record


class _Loaded:
    """One function of a library: its entries, and what it does with arguments that none of them takes."""

    def __init__(self, path: str, library: Any, record: Any) -> None:
        from stager.ir.abi_json import from_json

        self.path, self.library, self.record = path, library, record
        self.abis = [from_json(k) for k in record["kernels"]]
        python = record["python"]
        self.leaves = [_leaf(x) for x in python["leaves"]]
        self.hidden = record["inputs"][sum(x.input is not None for x in self.leaves) :]
        parameters = [_parameter(x) for x in python["parameters"]]
        named = [q for q in parameters if q.kind is not q.VAR_KEYWORD]
        kind = (
            inspect.Parameter.KEYWORD_ONLY
            if any(q.kind in (q.VAR_POSITIONAL, q.KEYWORD_ONLY) or q.default is not q.empty for q in named)
            else inspect.Parameter.POSITIONAL_OR_KEYWORD
        )
        named += [inspect.Parameter(n, kind) for n in self.hidden]
        self.signature = inspect.Signature([*named, *[q for q in parameters if q.kind is q.VAR_KEYWORD]])
        self.structures = {
            x["name"]: decode_structure(x["structure"]) for x in python["parameters"] if "structure" in x
        }
        self.given = [x["name"] for x in python["parameters"] if "structure" in x]

    def add_entries(self, made: Any) -> None:
        """One entry per kernel, and those again for Python numbers where 0-d arrays are taken."""
        from stager.runtime.function import add_entry

        for spec in self._specs():
            add_entry(made, spec)

    def _specs(self) -> list[Any]:
        from stager.ir.dims import parse_dim
        from stager.runtime.entries import DimGuard, EntrySpec

        guards = tuple([DimGuard(parse_dim(d), low, high) for d, low, high in self.record["conditions"]])
        forms = {r["output"]: "python" for r in self.record["python"]["results"] if r.get("python")}
        found = []
        for leaves in self._leaf_kinds():
            for abi in self.abis:
                patterns, varargs, varkw, sources = self._patterns(leaves)
                result = self._result(sources)
                address = ctypes.cast(getattr(self.library, abi.name), ctypes.c_void_p).value
                assert address is not None
                found.append(
                    EntrySpec(
                        abi, address, patterns, result, varargs=varargs, varkw=varkw, forms=forms, dim_guards=guards,
                        keepalive=(self.library,),
                    )
                )  # fmt: skip
        return found

    def _leaf_kinds(self) -> list[list[Leaf]]:
        """The leaves as they are, and with Python numbers and NumPy scalars for 0-d arrays."""
        numbers = {"f64": "float", "i64": "int", "b1": "bool"}
        inputs = self.abis[0].inputs
        kinds = [self.leaves]
        scalar = [x.kind == "array" and x.input is not None and not _type(inputs, x).shape for x in self.leaves]
        if any(scalar):
            for python in (True, False):
                changed = []
                for x, is_scalar in zip(self.leaves, scalar, strict=True):
                    kind = numbers.get(_type(inputs, x).dtype.name) if is_scalar and python else None
                    changed.append(replace(x, kind=kind) if kind else replace(x, value=None) if is_scalar else x)
                kinds.append(changed)
        return kinds

    def _patterns(self, leaves: list[Leaf]) -> Any:
        from stager.compiler import PatternWalker
        from stager.runtime.entry_programs import bound_parameters

        sources: dict[int, p.Source] = {}
        count = len(self.abis[0].inputs)
        inputs: Any = {k: k for k in range(count)}
        walker = PatternWalker(leaves, inputs, sources)
        named = {q.name: i for i, q in enumerate(bound_parameters(self.signature))}
        patterns: list[Any] = [None] * len(named)
        varargs: tuple[Any, ...] = ()
        varkw: tuple[tuple[str, Any], ...] = ()
        for name, q in self.signature.parameters.items():
            structure = self.structures.get(name)
            if q.kind is q.VAR_POSITIONAL:
                assert structure is not None
                varargs = tuple([walker.pattern(s, None) for s in structure.children])
            elif q.kind is q.VAR_KEYWORD:
                assert structure is not None
                keys: Any = structure.keys
                varkw = tuple([(k, walker.pattern(s, None)) for k, s in zip(keys, structure.children, strict=True)])
            elif name in self.hidden:
                index = count - len(self.hidden) + self.hidden.index(name)
                patterns[named[name]] = p.Leaf(index)
                sources[-1 - index] = p.Parameter(named[name])
            elif structure is None:
                patterns[named[name]] = p.Equal(q.default)
            else:
                patterns[named[name]] = walker.pattern(structure, p.Parameter(named[name]))
        by_input: dict[Any, p.Source] = {
            x.input: sources[k] for k, x in enumerate(leaves) if k in sources and x.input is not None
        }
        by_input |= {-1 - k: s for k, s in sources.items() if k < 0}
        return tuple(patterns), varargs, varkw, by_input

    def _result(self, sources: dict[Any, p.Source]) -> p.Result:
        from stager.compiler import result_tree

        leaves: list[p.Result] = []
        for r in self.record["python"]["results"]:
            if "output" in r:
                leaves.append(p.Output(r["output"]))
            elif "argument" in r:
                if r["argument"] not in sources:
                    raise BuildError(f"{self.record['name']} returns an argument out of a container that Python opens")
                leaves.append(p.Passed(sources[r["argument"]]))
            else:
                leaves.append(p.Fixed(r["fixed"]))
        return result_tree(decode_structure(self.record["python"]["structure"]), iter(leaves))

    # -- what no entry takes ------------------------------------------------------------------------------------------

    def miss(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Arrays with strides, foreign byte order and the like become plain ones; anything else is an error."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        values = self._values(bound)
        self._refuse_writes(values)
        plain = [x if k is None else _plain(x, self.abis[0].inputs[k].type) for k, x in values]
        if all(x is y for (_, x), y in zip(values, plain, strict=True)):
            raise UnsupportedError(self._expectation())
        copies = [(x, y, y.copy()) for (_, x), y in zip(values, plain, strict=True) if x is not y]
        rest = iter(plain)
        for name in self.given:
            structure = self.structures[name]
            bound.arguments[name] = unflatten(structure, [next(rest) for _ in range(structure.leaves)])
        for name in self.hidden:
            bound.arguments[name] = next(rest)
        result = function(*bound.args, **bound.kwargs)
        for x, y, before in copies:
            if isinstance(x, np.ndarray) and not np.array_equal(before.view(np.uint8), y.view(np.uint8)):
                x[...] = y
        return result

    def _values(self, bound: inspect.BoundArguments) -> list[tuple[Any, Any]]:
        """(input of the kernel or None, value) of every leaf of the arguments."""
        found: list[Any] = []
        for name in self.given:
            leaves, structure = flatten(bound.arguments[name])
            if structure != self.structures[name]:
                raise UnsupportedError(self._expectation())
            found.extend(leaves)
        numbers: list[Any] = [x.input for x in self.leaves]
        found += [bound.arguments[name] for name in self.hidden]
        numbers += range(len(self.abis[0].inputs) - len(self.hidden), len(self.abis[0].inputs))
        return list(zip(numbers, found, strict=True))

    def _refuse_writes(self, values: list[tuple[Any, Any]]) -> None:
        """ValueError when memory that is written is read-only or another argument's too."""
        arrays = [(k, x) for k, x in values if isinstance(x, np.ndarray)]
        for k, x in arrays:
            if k is None or not self.abis[0].inputs[k].written:
                continue
            if not x.flags.writeable:
                raise ValueError("assignment destination is read-only")
            if sum(np.shares_memory(x, y) for _, y in arrays if np.may_share_memory(x, y)) > (x.size > 0):
                raise ValueError(
                    describe(
                        "two arguments share memory and one of them is written",
                        remedy="pass a copy, or build a function that takes one array and slices it",
                    )
                )

    def _expectation(self) -> str:
        inputs = zip(self.record["inputs"], self.abis[0].inputs, strict=True)
        wanted = ", ".join(f"{n}: {i.type}" for n, i in inputs)
        needs = "".join(f"; {d} in [{low}, {high}]" for d, low, high in self.record["conditions"])
        return f"{self.record['name']} of {os.path.basename(self.path)} takes ({wanted}){needs}"


def _type(inputs: Any, leaf: Leaf) -> Any:
    index: Any = leaf.input
    return inputs[index].type


def _leaf(x: Any) -> Leaf:
    if "fixed" in x:
        return Leaf("static", x["fixed"])
    value = np.empty(0) if x["kind"] == "array" else None
    return Leaf(x["kind"], value, x["input"])


def _parameter(x: Any) -> inspect.Parameter:
    kind = getattr(inspect.Parameter, x["kind"])
    return inspect.Parameter(x["name"], kind, default=x.get("default", inspect.Parameter.empty))


def _plain(x: Any, wanted: Any) -> Any:
    """A leaf as machine code takes it, where nothing but its form is in the way."""
    kinds = {"f": float, "i": int, "u": int, "b": bool}
    if type(x) is kinds.get(wanted.dtype.kind) and not wanted.shape:
        return np.array(x, wanted.dtype.np)  # OverflowError for an int that does not fit
    if isinstance(x, np.generic) and x.dtype == wanted.dtype.np:
        return np.asarray(x)
    if not isinstance(x, np.ndarray) or isinstance(x, np.ma.MaskedArray | np.matrix):
        return x
    if type(x) is np.ndarray and x.flags.c_contiguous and x.flags.aligned and x.dtype.isnative:
        return x
    return np.ascontiguousarray(x.view(np.ndarray), dtype=x.dtype.newbyteorder("=")).reshape(x.shape)


__all__ = ["load"]
