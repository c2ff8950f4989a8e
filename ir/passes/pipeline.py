"""The passes in the order in which they run: `PIPELINE`, read from top to bottom.

Each pass is `(graph, fast_math) -> graph`, keeps what the graph computes, and done twice does no more than done once.
`simplify` is ten tables of local rules in one walk, because each makes work for the others: folded constants make
identities, identities make equal nodes, views that meet make constants. The tables are also passes of their own
(`fold_constants`, …), which is how they are tested.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from stager.ir import passes
from stager.ir.graph import Graph
from stager.ir.passes import algebra
from stager.ir.passes.by_size import split_by_size
from stager.ir.passes.commits import drop_commits
from stager.ir.passes.control import CONTROL
from stager.ir.passes.dead import dead_code, dead_results
from stager.ir.passes.fold import FOLD
from stager.ir.passes.framed import FRAMED
from stager.ir.passes.indexed import INDEXED
from stager.ir.passes.latest import read_latest
from stager.ir.passes.masks import MASKS
from stager.ir.passes.order import reads_first
from stager.ir.passes.padded import sum_padded
from stager.ir.passes.parts import read_parts
from stager.ir.passes.piecewise import cut_pieces
from stager.ir.passes.products import PRODUCTS
from stager.ir.passes.sums import split_sums
from stager.ir.passes.update_views import UPDATE_VIEWS
from stager.ir.passes.updates import UPDATES, drop_overwritten, join_updates
from stager.ir.passes.views import VIEWS
from stager.ir.rewrite import Rules, merge_rules, rewrite


@dataclass(frozen=True, slots=True)
class Pass:
    """One step of the pipeline; `note` says what it is for."""

    name: str
    run: Callable[[Graph, bool], Graph]
    note: str


@cache
def algebra_rules() -> Rules:
    """The rows of algebra, prepared once."""
    return algebra.rules()


@cache
def simplify_rules() -> Rules:
    """All local rules, in the order in which they are tried."""
    return merge_rules(FOLD, algebra_rules(), VIEWS, PRODUCTS, UPDATES, UPDATE_VIEWS, FRAMED, INDEXED, MASKS, CONTROL)


def common_subexpressions(graph: Graph, fast_math: bool = False) -> Graph:
    """Equal nodes computed once. Effects stay apart."""
    return rewrite(graph, {})


def fold_constants(graph: Graph, fast_math: bool = False) -> Graph:
    """What is known while compiling, computed while compiling."""
    return rewrite(graph, FOLD, share=False)


def simplify_algebra(graph: Graph, fast_math: bool = False) -> Graph:
    """Identities of scalar arithmetic."""
    return rewrite(graph, algebra_rules(), share=False, fast_math=fast_math)


def resolve_views(graph: Graph, fast_math: bool = False) -> Graph:
    """At most one view of each kind, next to its source."""
    return rewrite(graph, merge_rules(VIEWS, PRODUCTS), share=False, fast_math=fast_math)


def resolve_updates(graph: Graph, fast_math: bool = False) -> Graph:
    """Reads of updates, pads and concatenations go to the pieces."""
    return rewrite(graph, merge_rules(UPDATES, UPDATE_VIEWS, FRAMED, INDEXED), share=False)


def simplify_control(graph: Graph, fast_math: bool = False) -> Graph:
    """Known branches and trip counts, captures, loop-invariant code."""
    return rewrite(graph, CONTROL, share=False)


def simplify(graph: Graph, fast_math: bool = False) -> Graph:
    """Constants, algebra, views, updates, control, common subexpressions and dead code until nothing changes."""
    return rewrite(graph, simplify_rules(), fast_math=fast_math)


def and_simplified(change: Callable[[Graph, bool], Graph]) -> Callable[[Graph, bool], Graph]:
    """A pass, and `simplify` of what it leaves where it changed anything."""

    def run(graph: Graph, fast_math: bool = False) -> Graph:
        changed = change(graph, fast_math)
        return graph if changed is graph else simplify(changed, fast_math)

    return run


def by_size(graph: Graph, fast_math: bool = False) -> Graph:
    """A switch between the graph and one that is cut along axes of named sizes, for extents that are not tiny."""
    return split_by_size(graph, lambda g: simplify(g, fast_math))


PIPELINE: tuple[Pass, ...] = (
    Pass("dead_code", dead_code, "drops what tracing left behind, so that nothing else looks at it"),
    Pass("simplify", simplify, "constants, algebra, views, updates, control, common subexpressions"),
    Pass("drop_commits", and_simplified(drop_commits), "what the caller's arrays hold, where nothing raises behind it"),
    Pass("trim_control", and_simplified(dead_results), "carries and results that are not needed, found from behind"),
    Pass("early_sums", and_simplified(split_sums), "sums of cotangents without the factors that come last"),
    Pass("drop_overwritten", drop_overwritten, "updates that are written again unread"),
    Pass("join_updates", join_updates, "updates that cover their base become a concatenation"),
    Pass("parts_of_pieces", and_simplified(read_parts), "parts of f(stack(x, y)) become f(x) and f(y)"),
    Pass("sum_padded", sum_padded, "sums of padded parts, without the padding in memory"),
    Pass("piece_by_piece", and_simplified(cut_pieces), "concatenate(a, b) * x becomes a * x[:n] and b * x[n:]"),
    Pass("by_size", by_size, "the same along axes of named sizes, where these are not tiny"),
    Pass("read_latest", read_latest, "reads behind an update read its result, which lets it write in place"),
    Pass("reads_first", reads_first, "what reads an array comes before what may write over it"),
)


def run_pipeline(
    graph: Graph, *, stop_after: str | None = None, fast_math: bool = False, timings: dict[str, float] | None = None
) -> Graph:
    """The optimised graph. `stop_after` names the last pass to run; `timings` receives seconds by pass."""
    if stop_after is not None and all(p.name != stop_after for p in PIPELINE):
        raise ValueError(f"no pass is called {stop_after!r}; the passes are {', '.join(p.name for p in PIPELINE)}")
    if passes.VERIFY:
        from stager.ir.verify import verify

        verify(graph, "before the first pass")
    for p in PIPELINE:
        start = time.perf_counter()
        graph = p.run(graph, fast_math)
        if timings is not None:
            timings[p.name] = timings.get(p.name, 0.0) + time.perf_counter() - start
        if passes.VERIFY:
            verify(graph, f"after the pass {p.name}")
        if p.name == stop_after:
            break
    return graph
