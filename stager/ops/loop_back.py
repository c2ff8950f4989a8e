"""What goes back through the iterations of a loop, whatever the forward pass kept for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from stager.ir.graph import Node, Value
from stager.ops.cotangents import Totals, accumulate
from stager.ops.families import zeros_like
from stager.ops.footprints import Course, untouched
from stager.ops.joint import Joint, Part, flows, run_back

Raw = Any
STEPS = 16  # nodes looked at for a sum


class LoopBack:
    """What goes back through the iterations of a loop: the cotangents of active carries, and the totals of captures."""

    def __init__(
        self,
        joint: Joint,
        active: Sequence[bool],
        carries: Sequence[Raw],
        captured: Sequence[Raw],
        needs_captured: Sequence[bool],
        cts: Sequence[Raw],
        totals: Sequence[Raw],
    ) -> None:
        """cts: of the loop's results. totals: of its carries and captures up to now."""
        self.joint, self.active, self.needs_captured = joint, active, needs_captured
        n = len(carries)
        self._carry_totals = totals[:n]
        given = [ct for ct, on in zip(cts, active, strict=True) if on]
        n_active = len(given)
        self.on = [ct is not None for ct in given]
        while True:
            reached = flows(joint, self.on)
            grown = [a or b for a, b in zip(self.on, reached[:n_active], strict=True)]
            if grown == self.on:
                break
            self.on = grown
        self.capture_on = reached[n_active:]
        mine = [c for c, a in zip(carries, active, strict=True) if a]
        needed = [(c, t) for c, t, need in zip(captured, totals[n:], needs_captured, strict=True) if need]
        start = [zeros_like(c) if ct is None else ct for ct, c, x in zip(given, mine, self.on, strict=True) if x]
        sums = [zeros_like(c) if t is None else t for (c, t), x in zip(needed, self.capture_on, strict=True) if x]
        self._n_cts = len(start)
        self.start = [*start, *sums]
        self._known: list[Value] = []  # cotangents that are zero because no turn has added to them yet
        self._first: set[Node] = set()  # additions to such
        zero = [*[ct is None for ct in given], *[t is None for _, t in needed]]
        inputs = [*joint.ct_inputs, *joint.total_inputs]
        self._from_zero = [
            (v, out) for v, out, z in zip(inputs, joint.ct_outs, zero, strict=True) if z and out is not None
        ]

    def skip_zeros(self, course: Course) -> None:
        """Lets the first addition to a place of a cotangent that begins with zeros be a write."""
        graph = self.joint.graph
        for v, out in self._from_zero:
            for node in untouched(course, v, out):
                additions = [node] if node.op.name == "scatter" else graph.nx.succ[node]
                if any(self._is_sum(a) for n in additions for a in n.args[:2] if a != v):
                    continue  # blocks of elements each add their part of it (`codegen/blocks.py`)
                if node.op.name == "scatter":
                    self._first.add(node)
                else:
                    self._known.append(Value(node))

    def _is_sum(self, v: Value) -> bool:
        """Whether a cotangent is made of sums over larger ones."""
        todo = [v]
        for _ in range(STEPS):
            node = todo.pop().node if todo else None
            if node is None:
                return False
            if node.op.family == "reduction" or (node.op.name == "dot" and node.params["contract"][0]):
                return True
            if node.op.family in ("elementwise", "view"):
                todo += [a for a in node.args if a.node in self.joint.depends]
        return False

    def step(self, part: Part, state: Sequence[Raw]) -> list[Raw]:
        """The state one iteration further back; `part` knows what the forward part needs."""
        joint, on = self.joint, [*self.on, *self.capture_on]
        for v, ct in zip([*joint.ct_inputs, *joint.total_inputs], spread(state, on), strict=True):
            part.know(v, ct)
        for v in self._known:
            part.know(v, None)
        part.first = self._first
        run_back(joint, part, [ct for ct, x in zip(joint.ct_outs, on, strict=True) if x and ct is not None])
        new = [ct for ct, x in zip(joint.ct_outs, on, strict=True) if x]
        return [zeros_like(s) if ct is None else part.value(ct) for s, ct in zip(state, new, strict=True)]

    def results(self, back: Sequence[Raw]) -> list[Raw]:
        """The totals of carries and captures, from the state behind the first iteration."""
        carry_cts = spread(spread(back[: self._n_cts], self.on), self.active)
        capture_cts = spread(spread(back[self._n_cts :], self.capture_on), self.needs_captured)
        return [*added(self._carry_totals, carry_cts), *capture_cts]


def spread(values: Iterable[Raw], on: Sequence[bool]) -> list[Raw]:
    it = iter(values)
    return [next(it) if x else None for x in on]


def added(totals: Sequence[Raw], cts: Sequence[Raw]) -> list[Raw]:
    """New totals; None where nothing came."""
    return [ct if ct is None or t is None else accumulate(t, ct) for t, ct in zip(totals, cts, strict=True)]


def in_turn(first: Totals, second: Totals, n: int, ends: int) -> Totals:
    """The way back through the later turns of a loop, and then through those before. `ends`: operands of theirs in
    front of the n carries, which the totals here leave out."""
    none = [None] * ends

    def pull(cts: Sequence[Raw], totals: Sequence[Raw]) -> list[Raw]:
        later = second.run(cts, [*none, *[None] * n, *totals[n:]])[ends:]
        sums = [t if x is None else x for x, t in zip(later[n:], totals[n:], strict=True)]
        before = first.run(later[:n], [*none, *totals[:n], *sums])[ends:]
        return [*before[:n], *[s if x is None else x for x, s in zip(before[n:], sums, strict=True)]]

    return Totals(pull)
