"""The structural hash: the name under which compiled code is found again.

Two graphs hash equal when they are the same function built in any order: the hash covers ops, params, types, topology,
regions, signature and flags; scalar literals by bits and dtype, constants by content. It does not see line numbers,
names (of graphs, inputs and symbols), insertion order, symbol hints or `meta`. Of a path it sees whether it is that of
derivative code, with which passes are freer than with what the user wrote. Values of hidden arguments are no part of a
graph.

Every node gets a digest of its op, params, types and its operands' digests, so equal digests mean equal subexpressions.
A symbol's canonical name is what defines it (dim 1 of input 0; result 0 of the node with this digest), which makes the
names independent of order. The graph's hash joins the outputs' digests, the effects' in their order, and all nodes' as
a sorted list, which tells apart graphs that compute a subexpression once or twice.
"""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Callable, Sequence
from hashlib import blake2b
from struct import Struct
from typing import Any

import numpy as np

from stager.ir.dims import Dim, Expr, substitute, symbol
from stager.ir.dtypes import DType
from stager.ir.graph import Graph, Node
from stager.ir.types import Type

_F64 = Struct("<d").pack
_DIGEST = 16  # bytes; collisions are as likely as in a 64-bit birthday search: never in practice


def structural_hash(graph: Graph, flags: Sequence[Any] = ()) -> str:
    """The hash of a graph as 32 hex digits; `flags` are the compile options that change the code."""
    encoder = _Encoder(graph)
    head = b"|".join(map(encoder.encode, flags))
    return blake2b(head + b"#" + encoder.graph(), digest_size=_DIGEST).hexdigest()


_static_types: dict[Type, bytes] = {}
_function_tokens: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
_fresh_token = itertools.count()
_PROCESS = os.urandom(8)


class _Encoder:
    """Encodes params and types as bytes that no others share; knows the canonical symbols of one graph."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.names: dict[str, Dim] = {}
        self._exprs: dict[Expr, bytes] = {}
        self._data: dict[Node, list[tuple[str, int]]] = {}
        for name, d in graph.symbols.items():
            if d.kind == "data":
                self._data.setdefault(d.source.node, []).append((name, d.source.index))
                self.names[name] = symbol(f"own{d.source.index}")  # as its own node sees it
            else:
                self.names[name] = symbol(f"{d.kind}{d.source}_{d.axis}")

    def graph(self) -> bytes:
        graph, data = self._graph, self._data
        digests: dict[Node, bytes] = {}
        effects: list[bytes] = []
        encode, encode_type = self.encode, self.type
        for node in graph.nodes:
            op = node.op
            parts = [b"%s%s %d" % (op.name.encode(), op.version.encode(), len(node.args))]
            args = [digests[a.node] + b"%d" % a.index for a in node.args]
            if op.commutative:
                args.sort()
            parts += args
            params = node.params
            if params:
                if op.name == "fill":
                    parts += (literal_bits(params["value"], params["dtype"]), encode(params["shape"]))
                else:
                    for key in sorted(params) if len(params) > 1 else params:
                        parts += (key.encode(), encode(params[key]))
            parts += map(encode_type, node.types)
            for region in node.regions:
                parts.append(_Encoder(region).graph())
            if node.path and node.in_derivative:
                parts.append(b"backward" if node.in_backward else b"derivative")
            if node.ordered:
                parts.append(b"effect %d" % len(effects))
            digest = blake2b(b";".join(parts), digest_size=_DIGEST).digest()
            if node.ordered:
                effects.append(digest)
            digests[node] = digest
            for name, index in data.get(node, ()):
                self.names[name] = symbol(f"d{digest.hex()}_{index}")
                self._exprs.clear()
        s = graph.signature
        tail = [
            *(digests[v.node] + b"%d" % v.index for v in graph.outputs),
            b"effects", *effects,
            b"inputs", *map(encode_type, graph.input_types),
            b"writes", encode(tuple(sorted(s.writes))),
            b"aliases", encode(tuple(sorted(s.aliases.items()))),
            b"donated", encode(tuple(sorted(s.donated))),
            b"layouts", *(encode((i, tuple(strides))) for i, strides in sorted(s.layouts.items())),
            b"nodes", *sorted(digests.values()),
        ]  # fmt: skip
        return blake2b(b";".join(tail), digest_size=_DIGEST).digest()

    def type(self, t: Type) -> bytes:
        found = _static_types.get(t)
        if found is None:
            if not t.is_static:
                return b"t" + t.dtype.name.encode() + self.encode(t.shape)
            if len(_static_types) > 10_000:
                _static_types.clear()
            found = _static_types[t] = b"t" + str(t).encode()
        return found

    def encode(self, v: Any) -> bytes:
        """Bytes that are equal exactly for params that mean the same."""
        kind = _KINDS.get(type(v))
        if kind is not None:
            return kind(v)
        if isinstance(v, tuple):
            return b"(" + b",".join(map(self.encode, v)) + b")"
        if isinstance(v, Expr):
            found = self._exprs.get(v)
            if found is None:
                found = self._exprs[v] = b"e" + str(substitute(v, self.names)).encode()
            return found
        if isinstance(v, Type):
            return self.type(v)
        if isinstance(v, np.ndarray):
            return _array(v)
        if isinstance(v, np.generic):
            return self.encode(v.item())
        if callable(v):
            return b"c%d" % _token(v) + _PROCESS
        raise TypeError(f"a param of type {type(v).__name__} has no structural hash: {v!r}")


_KINDS: dict[type, Callable[[Any], bytes]] = {
    int: lambda v: b"i%d" % v,
    bool: lambda v: b"T" if v else b"F",
    float: lambda v: b"f" + _F64(v),
    complex: lambda v: b"z" + _F64(v.real) + _F64(v.imag),
    str: lambda v: b"s%d:" % len(v) + v.encode("utf-8", "surrogatepass"),
    type(None): lambda v: b"N",
    DType: lambda v: b"d" + v.name.encode(),
}


def literal_bits(value: Any, dtype: DType) -> bytes:
    """A scalar literal by the bits it has in its dtype: 1, 1.0 and True are one f64 literal, 0.0 and -0.0 are two."""
    if dtype.bits == 64 and dtype.kind == "f" and type(value) in (float, int):
        return b"l" + _F64(value)
    return b"l" + np.array(value, dtype=dtype.np.newbyteorder("<")).tobytes()


def _array(a: np.ndarray[Any, Any]) -> bytes:
    data = np.ascontiguousarray(a, dtype=a.dtype.newbyteorder("<"))
    head = f"a{a.dtype.kind}{a.dtype.itemsize}{a.shape}".encode()
    return head + blake2b(data.reshape(-1).view(np.uint8).data, digest_size=_DIGEST).digest()


def _token(function: Any) -> int:
    """A number for a host function, the same for the same object in this process only."""
    try:
        return _function_tokens.setdefault(function, next(_fresh_token))
    except TypeError:  # no weak reference: identity is all there is
        return id(function)
