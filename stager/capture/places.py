"""Places: attributes and items of Python objects that a traced branch or loop assigns.

`self.n += 1` in a staged loop changes an object that is older than the loop. The first such store stops the trace with
`PlaceNeededError`; whoever stages the branch or loop takes the place among the variables it carries and traces again.
From then on the place is set to the region's value while the region is traced, and to the node's result afterwards.

Not here: growing and shrinking of containers, which cannot be staged (`staged.decline`).
"""

from __future__ import annotations

from typing import Any

from stager.array import Array
from stager.capture.session import UNBOUND, Session, Step, path_text, step_key
from stager.errors import ControlFlowError, describe
from stager.interpreters.stack import stack
from stager.staged import UserRegion, region_in_force


class Place:
    """`obj.name` or `obj[key]`."""

    __slots__ = ("obj", "session", "step")

    def __init__(self, session: Session, obj: Any, step: Step) -> None:
        self.session = session
        self.obj = obj
        self.step = step

    @property
    def key(self) -> tuple[int, Step]:
        return (id(self.obj), step_key(self.step))

    @property
    def text(self) -> str:
        path = self.session.path_of(self.obj) or (("object", self.obj),)
        return path_text((*path, self.step))

    def get(self) -> Any:
        """The value there, as user code would read it; UNBOUND when there is none."""
        s, obj, (kind, name) = self.session, self.obj, self.step
        stored = s.stores.get(self.key)
        if stored is not None:
            return stored.value
        try:
            value = getattr(obj, name) if kind == "attr" else obj[name]
        except (AttributeError, KeyError, IndexError):
            return UNBOUND
        path = s.path_of(obj)
        return value if path is None else s.load(obj, self.step, (*path, self.step), value)

    def set(self, value: Any) -> None:
        """Set or, with UNBOUND, remove the value there."""
        s, obj, (kind, name) = self.session, self.obj, self.step
        if value is UNBOUND:
            if s.stores.pop(self.key, None) is None and self.get() is not UNBOUND:
                if kind == "attr":
                    delattr(obj, name)
                else:
                    del obj[name]
            return
        path = s.path_of(obj)
        if path is not None and s.store(obj, self.step, (*path, self.step), value):
            return
        if kind == "attr":
            setattr(obj, name, value)
        else:
            obj[name] = value


class PlaceNeededError(ControlFlowError):
    """A staged body assigns a place that it does not carry yet."""

    def __init__(self, place: Place, region: UserRegion) -> None:
        self.place = place
        self.position = region.position
        super().__init__(
            describe(
                f"{place.text} is assigned inside a traced branch or loop",
                remedy="keep the value in a variable and assign it afterwards",
            )
        )

    def is_for(self) -> bool:
        """Whether the region that needs the place stands directly on the level in force."""
        return self.position >= stack().depth


def check_store(session: Session, obj: Any, step: Step, value: Any) -> None:
    """Before a store: raise when the region in force has to carry the place first."""
    region = region_in_force()
    if region is None or (id(obj) not in region.older and session.path_of(obj) is None):
        return
    place = Place(session, obj, step)
    if place.key in region.places:
        return
    if type(value) is Array and place.get() is value:  # `obj.x += y` on an array: written in place
        return
    raise PlaceNeededError(place, region)
