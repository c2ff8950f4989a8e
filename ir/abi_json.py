"""The ABI record as JSON: what the disk cache, pickles and built libraries keep beside object code.

Invariant: `from_json(to_json(abi)) == abi`, and the JSON holds only lists, strings and numbers, so that reading one
from a file can fail but never run anything.
"""

from __future__ import annotations

from typing import Any

from stager.ir.abi import Abi, InputAbi, OutputAbi, StatusAbi, SymbolAbi
from stager.ir.dims import Dim, parse_dim
from stager.ir.dtypes import dtype_named
from stager.ir.types import Type


def to_json(abi: Abi) -> dict[str, Any]:
    """The record as plain data for `json.dumps`."""
    return {
        "name": abi.name,
        "inputs": [[_type(i.type), _dims(i.strides), i.written, i.align] for i in abi.inputs],
        "outputs": [[_type(o.type), o.kind, o.source, _dim(o.offset), _dims(o.strides)] for o in abi.outputs],
        "symbols": [[s.name, s.kind, s.input, s.axis] for s in abi.symbols],
        "arena_bytes": _dim(abi.arena_bytes),
        "statuses": [[s.exception, s.text] for s in abi.statuses],
        "externals": list(abi.externals),
        "work": _dim(abi.work),
        "features": list(abi.features),
    }


def from_json(data: dict[str, Any]) -> Abi:
    """The record that `to_json` wrote. ValueError when the data is none."""
    try:
        return Abi(
            name=str(data["name"]),
            inputs=tuple(
                InputAbi(_read_type(t), _read_dims(strides), bool(written), int(align))
                for t, strides, written, align in data["inputs"]
            ),
            outputs=tuple(
                OutputAbi(_read_type(t), str(kind), int(source), _read_dim(offset), _read_dims(strides))
                for t, kind, source, offset, strides in data["outputs"]
            ),
            symbols=tuple(SymbolAbi(str(n), str(kind), int(at), int(axis)) for n, kind, at, axis in data["symbols"]),
            arena_bytes=_read_dim(data["arena_bytes"]),
            statuses=tuple(StatusAbi(str(exception), str(text)) for exception, text in data["statuses"]),
            externals=tuple(map(str, data["externals"])),
            work=_read_dim(data["work"]),
            features=tuple(map(str, data["features"])),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an ABI record: {error!r}") from None


def _dim(d: Dim) -> int | str:
    return d if isinstance(d, int) else str(d)


def _dims(dims: tuple[Dim, ...]) -> list[int | str]:
    return [_dim(d) for d in dims]


def _type(t: Type) -> list[Any]:
    return [t.dtype.name, _dims(t.shape)]


def _read_dim(d: Any) -> Dim:
    if isinstance(d, str):
        return parse_dim(d)
    if type(d) is not int:
        raise ValueError(f"not a dim: {d!r}")
    return d


def _read_dims(dims: Any) -> tuple[Dim, ...]:
    return tuple(_read_dim(d) for d in dims)


def _read_type(t: Any) -> Type:
    name, shape = t
    return Type(dtype_named(name), _read_dims(shape))
