"""Finds the syntax tree of a live function: the `FunctionDef` or `Lambda` that its code object was compiled from.

Invariant: `locate` returns the node of exactly this code object, with line and column numbers of the user's file, or
None when that cannot be shown (no source, a file edited since import). Several lambdas on one line are told apart by
`co_positions`. Not here: what is done with the tree (`rewrite.py`).
"""

from __future__ import annotations

import ast
import copy
import linecache
from types import CodeType
from typing import NamedTuple

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class Source(NamedTuple):
    """A function's tree and where it stands."""

    node: FunctionNode
    filename: str


_TREES: dict[str, tuple[int, ast.Module | None]] = {}  # whole files: (hash of the text, tree); few files ever need it
_TREES_KEPT = 16


def locate(code: CodeType) -> Source | None:
    """The tree of `code`, or None when its source cannot be read."""
    filename = code.co_filename
    lines = linecache.getlines(filename)
    if not lines:
        linecache.checkcache(filename)
        lines = linecache.getlines(filename)
    first = code.co_firstlineno
    if not lines or not 0 < first <= len(lines):
        return None
    node = _in_block(code, lines) if code.co_name != "<lambda>" else _lambda_on_line(code, lines)
    if node is None:
        node = copy.deepcopy(_in_file(code, lines))  # whoever asks rewrites it
    return None if node is None else Source(node, filename)


def _last_line(code: CodeType) -> int:
    last = max((line for _, _, line in code.co_lines() if line is not None), default=code.co_firstlineno)
    for const in code.co_consts:
        if isinstance(const, CodeType):
            last = max(last, _last_line(const))
    return last


def _in_block(code: CodeType, lines: list[str]) -> FunctionNode | None:
    """Parse only the lines of the function: from its first line to where the indentation returns."""
    first = code.co_firstlineno
    head = lines[first - 1]
    indent = len(head) - len(head.lstrip())
    end = _last_line(code)
    for _ in range(4):
        while end < len(lines) and _belongs(lines[end], indent):
            end += 1
        block = "".join(lines[first - 1 : end])
        try:  # empty lines in front give the lines of the file
            if indent:  # a wrapper instead of a dedent: columns stay, and so do strings over several lines
                body = ast.parse("\n" * (first - 2) + "if 1:\n" + block).body[0].body  # type: ignore[attr-defined]
            else:
                body = ast.parse("\n" * (first - 1) + block).body
        except (SyntaxError, ValueError):
            end += 1
            continue
        if body and isinstance(body[0], ast.FunctionDef | ast.AsyncFunctionDef) and _matches(body[0], code):
            return body[0]
        return None
    return None


def _belongs(line: str, indent: int) -> bool:
    text = line.lstrip()
    return not text or text[0] in "#)]}" or len(line) - len(text) > indent


def _first_line(node: ast.AST) -> int:
    decorators = getattr(node, "decorator_list", None)
    line: int = decorators[0].lineno if decorators else node.lineno  # type: ignore[attr-defined]
    return line


def _matches(node: FunctionNode, code: CodeType) -> bool:
    """Whether `node` can be what `code` was compiled from: a guard against files edited since their import."""
    if _first_line(node) != code.co_firstlineno:
        return False
    a = node.args
    names = [p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
    names += [p.arg for p in (a.vararg, a.kwarg) if p is not None]
    known = code.co_varnames[: len(names)]
    if len(known) != len(names) or code.co_argcount != len(a.posonlyargs) + len(a.args):
        return False
    return all(n == k or (n.startswith("__") and k.endswith(n)) for n, k in zip(names, known, strict=True))


def _lambda_on_line(code: CodeType, lines: list[str]) -> ast.Lambda | None:
    """The common case: the whole statement of the lambda stands on its line."""
    line = lines[code.co_firstlineno - 1]
    text = line.lstrip()
    if "lambda" not in line or text[0] == "@" or code.co_firstlineno < 2:
        return None
    try:
        tree = ast.parse("\n" * (code.co_firstlineno - 2) + "if 1:\n " + text)
    except SyntaxError:
        return None
    # byte columns, as co_positions counts them
    shift = len(line[: len(line) - len(text)].encode()) - 1
    for node in ast.walk(tree):
        if hasattr(node, "col_offset"):
            node.col_offset += shift
            node.end_col_offset += shift  # type: ignore[attr-defined]
    return _pick_lambda([n for n in ast.walk(tree) if isinstance(n, ast.Lambda)], code)


def _in_file(code: CodeType, lines: list[str]) -> FunctionNode | None:
    text = "".join(lines)
    key = hash(text)
    held = _TREES.get(code.co_filename)
    if held is None or held[0] != key:
        try:
            tree: ast.Module | None = ast.parse(text)
        except (SyntaxError, ValueError):
            tree = None
        while len(_TREES) >= _TREES_KEPT:
            del _TREES[next(iter(_TREES))]
        held = _TREES[code.co_filename] = (key, tree)
    if held[1] is None:
        return None
    first = code.co_firstlineno
    if code.co_name == "<lambda>":
        found: FunctionNode | None = _pick_lambda([n for n in ast.walk(held[1]) if isinstance(n, ast.Lambda)], code)
    else:
        named = [
            n
            for n in ast.walk(held[1])
            if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
            and n.name == code.co_name
            and _first_line(n) == first
            and _matches(n, code)
        ]
        found = named[0] if len(named) == 1 else None
    if found is None:
        return None
    import copy

    return copy.deepcopy(found)  # the tree of the file stays as it was parsed


def _pick_lambda(candidates: list[ast.Lambda], code: CodeType) -> ast.Lambda | None:
    candidates = [n for n in candidates if n.lineno == code.co_firstlineno and _matches(n, code)]
    if len(candidates) <= 1:
        return candidates[0] if candidates else None
    span = _span(code)
    if span is None:
        return None
    inside = [n for n in candidates if _contains(n.body, span)]
    # of nested lambdas on one line the span of the outer one's own code is the larger: the tightest body holds it
    inside.sort(key=lambda n: (n.body.end_lineno or 0, n.body.end_col_offset or 0, -n.body.lineno, -n.body.col_offset))
    return inside[0] if inside else None


def _span(code: CodeType) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The extent of the code's own instructions, or None when the interpreter kept no columns."""
    starts, ends = [], []
    for line, end_line, column, end_column in code.co_positions():
        if line is None or end_line is None or column is None or end_column is None or (column, end_column) == (0, 0):
            continue
        starts.append((line, column))
        ends.append((end_line, end_column))
    return (min(starts), max(ends)) if starts else None


def _contains(body: ast.expr, span: tuple[tuple[int, int], tuple[int, int]]) -> bool:
    start = (body.lineno, body.col_offset)
    end = (body.end_lineno or 0, body.end_col_offset or 0)
    return start <= span[0] and span[1] <= end
