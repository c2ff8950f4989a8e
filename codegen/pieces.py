"""How much work is worth dividing among threads, and into what pieces.

Shapes alone decide, never the number of threads, so results do not depend on it. Not here: which loops may be divided
(`independent.py`, `schedule.py`), how pieces are dealt out (`pool.py`).
"""

from __future__ import annotations

from typing import Any

from stager.codegen.index import Facts
from stager.codegen.program import Buffer, Loop, MapLanes, Move, Nest, Read, Routine, Switch, walk
from stager.codegen.work import body_work, guess, points_of
from stager.ir.dims import Dim, floordiv

PARALLEL_NS = 60_000
"""A nest of less work than this is not worth waking threads for."""
BRIEF_NS = 30_000
"""The same where threads need not be woken: inside of a loop that comes back before they sleep."""
AWAKE_NS = 50_000
"""So much work between two divided nests leaves the workers looking for more: half of what they look for."""
MANY_NS = 4 * PARALLEL_NS
"""A loop of less work is over before the workers have come."""
PIECE_NS = 16_000
"""The work of one piece of a parallel loop."""
ASKING_NS = 1 << 18
"""The work between two questions whether to stop, in loops whose turns are short."""
PIECES = 6
"""No fewer pieces than this, so that threads have about as much to do each."""


def least(awake: bool) -> int:
    """The work that is worth dividing; `awake`: where workers look for more."""
    return BRIEF_NS if awake else PARALLEL_NS


def grain(size: Dim, each: float) -> int:
    """How many of `size` things that take so long each make a piece; pieces of one size where that is known."""
    if not isinstance(size, int):
        return max(1, int(PIECE_NS / each))
    pieces = max(PIECES, int(size * each / PIECE_NS), 1)
    return max(1, -(-size // pieces))


def leave_whole(steps: list[Any]) -> None:
    """Short nests of a turn stay on one thread: workers sleep before the next turn comes to them."""
    for s in steps:
        if isinstance(s, Nest) and s.brief:
            s.parallel, s.brief, s.chunk, s.grain = False, False, 0, 0
        elif isinstance(s, MapLanes) and s.brief:
            s.parallel, s.brief = False, False
        elif isinstance(s, Switch):
            for branch in s.branches:
                leave_whole(branch)


def turns(s: Loop, facts: Facts) -> float:
    """How many turns a loop has; a hundred where that is not known."""
    if isinstance(s.lower, Buffer) or isinstance(s.upper, Buffer):
        return 100.0
    return guess(facts.maximum(floordiv(s.upper - s.lower, s.step)))


def while_period(steps: list[Any], facts: Facts) -> int:
    """Turns of a `while` between two questions whether to stop, a power of two. A question takes a lock of the
    interpreter's; loops around ask for those that take few turns."""
    turn = max(1, int(body_work(steps, facts)))

    def look(s: Any) -> None:
        nonlocal turn
        if isinstance(s, Routine | MapLanes):  # which take as long as their data want
            turn = max(turn, ASKING_NS // 32)

    walk(steps, look)
    return 1 << max(4, min(12, (ASKING_NS // turn).bit_length()))


def has_effects(steps: list[Any]) -> bool:
    found = False

    def look(s: Any) -> None:
        nonlocal found
        found = found or (isinstance(s, Routine) and s.node.op.ordered)

    walk(steps, look)
    return found


def is_steady(steps: list[Any]) -> bool:
    """Whether it is known how many points all nests have: in some turns of a loop they could be few."""
    steady = True

    def look(s: Any) -> None:
        nonlocal steady
        if isinstance(s, Nest):
            steady = steady and isinstance(points_of(s), int)
        elif not isinstance(s, Read | Move):
            steady = False

    walk(steps, look)
    return steady
