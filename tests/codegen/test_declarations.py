"""What a module declares."""

from __future__ import annotations

import pytest
from llvmlite import ir

from stager.codegen.declarations import I32, I64, PTR, declare


def test_a_second_type_for_one_name_is_refused() -> None:
    module = ir.Module()
    declare(module, "strlen", I64, [PTR])
    with pytest.raises(TypeError, match="strlen"):
        declare(module, "strlen", I32, [PTR])
