"""No op without rules, no op without samples."""

from __future__ import annotations

import pytest

from stager.ir.op import OPS
from tests.samples import CALLS, EFFECTS, ROWS

ONE_MODE = ("stop_reverse", "stop_forward")
SOURCES = [name for name, op in OPS.items() if op.family == "source"]
OWN = [name for name, op in OPS.items() if op.type_rule.__module__.startswith("stager.") and not op.version]


@pytest.mark.parametrize("name", [n for n in OWN if n not in SOURCES])
def test_every_op_has_all_rules_and_samples(name: str) -> None:
    op = OPS[name]
    assert name in (*ROWS, *EFFECTS, *CALLS), f"tests/samples.py has no row for {name}"
    assert op.batch is not None
    assert op.reference is not None
    if op.family == "elementwise":
        assert op.lower is not None
    if name in (*EFFECTS, *CALLS):
        return
    if name in ONE_MODE:
        return
    has_reverse = op.vjp is not None or op.pullback is not None
    assert (op.jvp is not None) == has_reverse, "a derivative in one mode only"
    assert has_reverse != ROWS[name].flat, "flat says whether the derivative is zero by definition"


def test_every_row_is_an_op() -> None:
    assert set(ROWS) <= set(OPS)
