"""The tracer's side of capture: arrays found outside the function become hidden arguments of the trace."""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.array import Array, wrap
from stager.capture.resolve import LIFT
from stager.capture.session import TRACERS, Path, Session, Store, path_text
from stager.capture.touched import refuse_drawn
from stager.cells import Cell
from stager.errors import UnsupportedError, describe
from stager.interpreters.stack import nearest_stage, stack
from stager.interpreters.stage import StageInterpreter
from stager.leaves import Leaf, leaf_type
from stager.stand_ins import is_odd, plain_array

TRACERS.add(Array)
if not LIFT:
    LIFT.append(lambda array: wrap(nearest_stage().lift(array)))


class TraceSession(Session):
    """The reads of one trace. `hidden` lists captured arrays as leaves, in order of first use."""

    def __init__(self, stage: StageInterpreter, freeze: bool = False) -> None:
        super().__init__()
        self.stage = stage
        self.freeze = freeze
        self.grad_enabled = stack().grad_enabled  # around the trace
        self.hidden: list[tuple[Path, Leaf]] = []
        self.odd: list[tuple[Leaf, np.ndarray[Any, Any]]] = []  # a leaf that a plain array stands in for, the original

    def captured_array(self, path: Path, array: np.ndarray[Any, Any]) -> Any:
        """A hidden argument, owned by level 0 wherever it is met."""
        if isinstance(array, np.ma.MaskedArray | np.matrix):
            raise UnsupportedError(
                describe(f"the captured {path_text(path)} is a {type(array).__name__}", remedy="use np.asarray of it")
            )
        if self.freeze:
            return wrap(nearest_stage().lift(np.array(array) if is_odd(array) else array))
        stage, given = self.stage, array
        if is_odd(array):
            array = plain_array(array)
        value = stage.input(leaf_type(array), path_text(path))
        if stage.concrete is not None:
            stage.concrete.values[value] = array
        cell = Cell(value, stage, path_text(path))
        cell.origin = array
        cell.place = value.node.params["index"] if stage.commits else None
        cell.read_only = not array.flags.writeable
        if not np.may_share_memory(array, given) and array.size:
            text = f"a write into the captured {path_text(path)}, which is byte-swapped or misaligned"
            cell.read_only = f"{text}, so that what is read is a copy"
        leaf = Leaf("array", array, value, Array(cell, (), value.type))
        self.hidden.append((path, leaf))
        if array is not given:
            self.odd.append((leaf, given))
        return leaf.array

    def finish(self) -> None:
        """Refuse what a trace cannot give back: traced values left in objects older than it.

        Under compile also changes of Python state that the code depends on, because they happen only while tracing.
        """
        if self.stage.concrete is None:
            for place in self.changed:
                where = _place_text(place)
                raise UnsupportedError(
                    describe(
                        f"the compiled function reads {where} and assigns it, which would happen once, while tracing",
                        remedy="return the value and assign it outside, or keep it in an array written in place",
                        at=place.where,
                    )
                )
            refuse_drawn(self)
        for store in self.stores.values():
            raise UnsupportedError(
                describe(
                    f"a traced value is assigned to {_place_text(store)}, which outlives the traced function",
                    remedy="return the value and assign it outside",
                    at=store.where,
                )
            )
        for touched in [*self.touched.values()]:
            del self.touched[id(touched.container)]
            touched.finish(self, self.stage.concrete is None)


def _place_text(place: Store) -> str:
    return path_text(place.path) if place.path else f"<{type(place.owner).__name__}>{path_text((place.step,))}"
