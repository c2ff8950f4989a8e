"""From what a trace read outside the function to what the native entry reads again at each call."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import numpy as np

from stager.capture.session import Guard, Path
from stager.capture.unseen import content_of
from stager.leaves import Leaf
from stager.runtime import patterns as p
from stager.stand_ins import plain_array
from stager.tracing import Traced


def source_of(path: Path, sources: dict[int, p.Source] | None = None) -> p.Source:
    """The path as the entry walks it."""
    source: p.Source | None = None
    for step in path:
        match step[0]:
            case "global":
                source = p.Global(step[1], step[2])
            case "cell":
                source = p.Cell(step[1])
            case "default":
                source = _default(step[1], step[2])
            case "object":
                source = p.Constant(step[1])
            case "attr":
                assert source is not None
                source = p.Attribute(source, step[1])
            case "item":
                assert source is not None
                source = p.Item(source, step[1])
            case kind:
                raise AssertionError(f"internal error in stager: a path has a step {kind!r}")
    assert source is not None
    return source


def _default(fn: Any, parameter: str) -> p.Source:
    """A default is read from the function's own attributes, so that assigning them is seen."""
    parameters = list(inspect.signature(fn).parameters.values())
    keyword_only = [q.name for q in parameters if q.kind is inspect.Parameter.KEYWORD_ONLY]
    if parameter in keyword_only:
        return p.Item(p.Attribute(p.Constant(fn), "__kwdefaults__"), parameter)
    with_default = [
        q.name for q in parameters if q.default is not inspect.Parameter.empty and q.name not in keyword_only
    ]
    return p.Item(p.Attribute(p.Constant(fn), "__defaults__"), with_default.index(parameter))


def pattern_of(guard: Guard) -> p.Pattern:
    """What must stand at a guard's path."""
    match guard.kind:
        case "is":
            return p.Is(guard.value)
        case "eq":
            return p.Equal(guard.value)
        case "type":
            return p.TypeIs(guard.value)
        case "content":
            return p.Check(functools.partial(_equals, guard.value), f"equals {guard.value!r}")
        case "len":
            return p.Length(guard.value)
        case "array":
            return p.Check(functools.partial(_holds, guard.value), "an array of this content")
        case "keys":
            return p.Check(functools.partial(_has_keys, guard.value), f"has the keys {guard.value}")
    raise AssertionError(f"internal error in stager: a guard has the kind {guard.kind!r}")


# tests of patterns, which are pickled with the compiled function


def _equals(content: Any, x: Any) -> bool:
    return type(x) is type(content) and bool(x == content)


def _holds(content: Any, x: Any) -> bool:
    return isinstance(x, np.ndarray | memoryview | list | tuple) and content_of(x) == content


def _has_keys(keys: tuple[Any, ...], x: Any) -> bool:
    return tuple(x) == keys


def _lacks(name: str, x: Any) -> bool:
    return not hasattr(x, name)


def _without(name: str) -> p.Pattern:
    return p.Check(functools.partial(_lacks, name), f"has no attribute {name}")


def hidden(
    traced: Traced, inputs: dict[Any, int], sources: dict[int, p.Source], signature: inspect.Signature
) -> tuple[tuple[tuple[p.Source, p.Pattern], ...], tuple[tuple[dict[str, Any], str], ...]]:
    """(captured arrays and guards with where they stand, names that must not exist)."""
    found: list[tuple[p.Source, p.Pattern]] = []
    absent: list[tuple[dict[str, Any], str]] = []
    session = traced.session
    odd = {leaf.input: given for leaf, given in session.odd}
    for k, (path, leaf) in enumerate(session.hidden):
        source = source_of(path)
        sources[traced.arguments + k] = source
        pattern: p.Pattern = p.Leaf(inputs[leaf.input], "array")
        if leaf.input in odd:
            pattern = p.Opened(type(odd[leaf.input]), plain_array, pattern)
        found.append((source, pattern))
    for guard in session.guards.values():
        if guard.kind == "absent":
            step = guard.path[-1]
            if step[0] == "global":
                absent.append((step[1], step[2]))
            elif step[0] == "attr":
                found.append((source_of(guard.path[:-1]), _without(step[1])))
            continue
        if guard.kind == "same":
            for leaf in traced.leaves:
                if leaf.array is guard.value:
                    found.extend(_same(source_of(guard.path), leaf, inputs, sources, traced, odd))
            continue
        found.append((source_of(guard.path), pattern_of(guard)))
    return tuple(found), tuple(absent)


def _same(
    source: p.Source,
    leaf: Leaf,
    inputs: dict[Any, int],
    sources: dict[int, p.Source],
    traced: Traced,
    odd: dict[Any, Any],
) -> list[tuple[p.Source, p.Pattern]]:
    """The array of a leaf stands at `source` too. One that a plain array stands in for must be the very same again."""
    if leaf.input not in odd:
        return [(source, p.SameInput(inputs[leaf.input]))]
    first = next(sources[k] for k, other in enumerate(traced.leaves) if other is leaf)
    return [(place, p.Is(odd[leaf.input])) for place in (first, source)]
