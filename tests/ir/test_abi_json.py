"""The ABI record through JSON and back."""

from __future__ import annotations

import json

import pytest

from stager.ir.abi import Abi, InputAbi, OutputAbi, StatusAbi, SymbolAbi
from stager.ir.abi_json import from_json, to_json
from stager.ir.dims import floordiv, symbol
from stager.ir.types import parse_type

n, s = symbol("n"), symbol("s")
ABI = Abi(
    name="kernel",
    inputs=(InputAbi(parse_type("f64[n,3]"), (s, 8), written=True, align=64), InputAbi(parse_type("i64[]"), ())),
    outputs=(
        OutputAbi(parse_type("f32[2*n+1]")),
        OutputAbi(parse_type("b1[]"), kind="view_input", source=1, offset=floordiv(n, 2) * 8, strides=(-8, s)),
    ),
    symbols=(SymbolAbi("n", "shape", 0), SymbolAbi("s", "stride", 0, 1)),
    arena_bytes=n * 8 + 64,
    statuses=(StatusAbi("IndexError", "index {0} is out of bounds für {1}"),),
    externals=("stager_parallel_for",),
    work=n * n * 3,
    features=("+avx2",),
)


def test_round_trip() -> None:
    assert from_json(json.loads(json.dumps(to_json(ABI)))) == ABI


@pytest.mark.parametrize("field", ["inputs", "outputs", "symbols", "arena_bytes", "statuses", "work"])
@pytest.mark.parametrize("wrong", [None, 1.5, [[1]]])
def test_damage_is_a_value_error(field: str, wrong: object) -> None:
    data = {**to_json(ABI), field: wrong}
    with pytest.raises(ValueError, match=r"ABI|dim|unpack"):
        from_json(data)


def test_a_missing_field_is_a_value_error() -> None:
    data = to_json(ABI)
    del data["name"]
    with pytest.raises(ValueError, match="not an ABI record"):
        from_json(data)
