"""What counting the references to an object adds to them, which is not the same in every version of Python.

    sys.getrefcount(x)        of a local variable: LOCAL more than hold x
    counts(x)                 where that calls sys.getrefcount on its parameter: LOCAL_GIVEN more, x a local variable
    counts(items[k])          and ITEM_GIVEN more where it is not

Each is measured when this loads. None of these variables may be one that an inner function uses too. An attribute or an
item that is not given to a function but counted at once has always one more than hold it.
"""

from __future__ import annotations

import sys
from collections.abc import Generator


def _local() -> int:
    x = object()
    return sys.getrefcount(x) - 1


def _given(x: object) -> int:
    return sys.getrefcount(x)


def _local_given() -> int:
    x = object()
    return _given(x) - 1


def _item_given() -> int:
    items = [object()]
    return _given(items[0]) - 1


def _generator(x: object) -> Generator[object, None, None]:
    yield x


def _held_by_closed() -> int:
    items = (object(),)
    closed = _generator(*items)
    closed.close()
    return sys.getrefcount(items[0]) - 2


LOCAL = _local()
LOCAL_GIVEN = _local_given()
ITEM_GIVEN = _item_given()
CLOSED = _held_by_closed()
"""How many references a generator keeps to an argument after it was closed before it began."""
