"""Where CPython and NumPy keep what the native entry reads, measured in the running interpreter.

Every offset is found by looking at live objects whose content is known, and checked on a second one; nothing is taken
from a version table. A build whose objects are laid out in a way that the entry does not know (free-threaded, reference
tracing, 32 bits, PyPy) is refused here with its reason, before anything is compiled.
"""

from __future__ import annotations

import ctypes
import importlib
import struct
import sys
import sysconfig
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from stager.ir.entry_table import PythonLayout

HEAD = 16  # refcount and type, in every build that is accepted


class UnsupportedPythonError(ImportError):
    """This interpreter cannot host the native entry."""


def refuse_unknown_builds() -> None:
    """UnsupportedPythonError when object heads are not the plain two words."""
    if sys.implementation.name != "cpython":
        raise UnsupportedPythonError(f"stager needs CPython, this is {sys.implementation.name}")
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise UnsupportedPythonError(
            "stager does not support free-threaded Python yet: use the standard build of the same version"
        )
    if struct.calcsize("P") != 8 or sys.byteorder != "little":
        raise UnsupportedPythonError("stager needs a 64-bit little-endian machine")
    if object.__basicsize__ != HEAD:
        raise UnsupportedPythonError(
            f"this Python was built with extra words in every object (object.__basicsize__ is {object.__basicsize__}, "
            f"not {HEAD}); use a standard build"
        )


def word(address: int, code: str = "q") -> int:
    """The integer of struct format `code` at `address`."""
    return int(struct.unpack(code, ctypes.string_at(address, struct.calcsize(code)))[0])


def _find(what: str, samples: Sequence[tuple[Any, Any]], sizes: Callable[[Any], int], code: str) -> int:
    """The one offset at which every sample object holds its value."""
    width = struct.calcsize(code)
    limit = min(sizes(obj) for obj, _ in samples)
    found = [
        at
        for at in range(HEAD, limit - width + 1, width)
        if all(ctypes.string_at(id(obj) + at, width) == struct.pack(code, value) for obj, value in samples)
    ]
    if not found:
        raise UnsupportedPythonError(f"cannot find {what} in {_versions()}")
    return found[0]


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise UnsupportedPythonError(f"{what} is not where stager expects it in {_versions()}")


def _versions() -> str:
    return f"Python {sys.version.split()[0]} with NumPy {np.__version__}"


@cache
def python_layout() -> PythonLayout:
    """The layout of this interpreter. UnsupportedPythonError when an offset cannot be found."""
    refuse_unknown_builds()
    first, second = object(), object()
    tuple_items = tuple.__basicsize__
    pair = (first, second)
    _require(word(id(pair) + tuple_items) == id(first) and word(id(pair) + tuple_items + 8) == id(second), "tuple")
    _require(word(id(pair) + HEAD) == 2, "the length of a tuple")
    items = [first, second]
    list_items = _find("list", [(items, _list_storage(items))], lambda o: list.__basicsize__, "q")
    _require(word(id(items) + HEAD) == 2, "the length of a list")
    float_value = _find("float", [(1.25, 1.25), (-3.5, -3.5)], lambda o: float.__basicsize__, "d")
    scalar_value = _probe_scalars()
    return PythonLayout(
        version=sys.version_info[:2],
        split_refcount=sys.version_info >= (3, 12),
        tuple_items=tuple_items,
        list_items=list_items,
        float_value=float_value,
        scalar_value=scalar_value,
        **_probe_arrays(),
    )


def _list_storage(items: list[Any]) -> int:
    """The address that `items` keeps its elements at: the word of the object that leads to them."""
    for at in range(HEAD + 8, list.__basicsize__, 8):
        address = word(id(items) + at)
        if address > 1 << 16 and address % 8 == 0 and _leads_to(address, items):
            return address
    raise UnsupportedPythonError("cannot find the elements of a list")


def _leads_to(address: int, items: list[Any]) -> bool:
    # A list's words after its length are a pointer and a small number (the capacity), so a large one can be followed.
    return all(word(address + 8 * i) == id(item) for i, item in enumerate(items))


def _probe_scalars() -> int:
    samples: list[tuple[Any, str]] = [
        (np.float64(1.5), "d"), (np.float32(1.5), "f"), (np.int64(-7), "q"), (np.int32(-7), "i"), (np.int16(-7), "h"),
        (np.int8(-7), "b"), (np.uint64(7), "Q"), (np.uint32(7), "I"), (np.uint16(7), "H"), (np.uint8(7), "B"),
        (np.True_, "?"),
    ]  # fmt: skip
    for scalar, code in samples:
        stored = ctypes.string_at(id(scalar) + HEAD, struct.calcsize(code))
        _require(stored == struct.pack(code, scalar.item()), f"the value of numpy.{type(scalar).__name__}")
    return HEAD


def _probe_arrays() -> dict[str, int]:
    """Offsets in PyArrayObject_fields and PyArray_Descr, both public structs; found by known content."""
    size = np.ndarray.__basicsize__
    a = np.zeros((3, 5, 7), np.float64)
    b = np.zeros((2, 9, 4, 6), np.int16).transpose(3, 1, 0, 2)[::2]

    def find(what: str, value: Callable[[Any], int], code: str) -> int:
        return _find(what, [(x, value(x)) for x in (a, b)], lambda o: size, code)

    data = find("ndarray.data", lambda x: int(x.__array_interface__["data"][0]), "q")
    descr = find("ndarray.dtype", lambda x: id(x.dtype), "q")
    ndim = _find("ndarray.ndim", [(a, 3), (b, 4)], lambda o: size, "i")
    flags = find("ndarray.flags", lambda x: int(x.flags.num), "i")
    _require(ndim == data + 8, "ndarray.ndim")
    shape, strides = ndim + 8, ndim + 16
    for x in (a, b):
        for at, value, what in ((shape, x.shape, "ndarray.shape"), (strides, x.strides, "ndarray.strides")):
            _require(ctypes.string_at(word(id(x) + at), 8 * x.ndim) == struct.pack(f"{x.ndim}q", *value), what)
    f64, i16 = np.dtype(np.float64), np.dtype(np.int16)

    def in_descr(what: str, value: Callable[[Any], Any], code: str) -> int:
        return _find(what, [(d, value(d)) for d in (f64, i16, np.dtype(">f8"))], lambda o: np.dtype.__basicsize__, code)

    kind = in_descr("dtype.kind", lambda d: d.kind.encode(), "c")
    byteorder = in_descr("dtype.byteorder", lambda d: d.byteorder.encode(), "c")
    type_num = in_descr("dtype.num", lambda d: d.num, "i")
    itemsize = in_descr("dtype.itemsize", lambda d: d.itemsize, "q")
    return {
        "array_data": data,
        "array_ndim": ndim,
        "array_shape": shape,
        "array_strides": strides,
        "array_descr": descr,
        "array_flags": flags,
        "array_handler": _probe_handler(a, size),
        "descr_kind": kind,
        "descr_byteorder": byteorder,
        "descr_type_num": type_num,
        "descr_itemsize": itemsize,
    }


def _probe_handler(x: Any, size: int) -> int:
    """The field that names the allocator of an array's data: the last one, equal to the current handler."""
    handler = numpy_function("PyDataMem_GetHandler", ctypes.py_object)()
    return _find("ndarray.mem_handler", [(x, id(handler))], lambda o: size, "q")


# --- NumPy's C API: the public table behind the capsule; the indices are part of NumPy's ABI

NUMPY_API = {
    "PyArray_Type": 2,
    "PyArray_NewFromDescr": 94,
    "PyArray_SetBaseObject": 282,
    "PyDataMem_GetHandler": 305,
}


@cache
def numpy_api() -> dict[str, int]:
    """Addresses of the NumPy functions and types that the entry uses."""
    capsule = importlib.import_module("numpy._core._multiarray_umath")._ARRAY_API
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = get(capsule, None)
    addresses = {name: word(table + 8 * index) for name, index in NUMPY_API.items()}
    _require(addresses["PyArray_Type"] == id(np.ndarray), "NumPy's C API")
    return addresses


def numpy_function(name: str, result: Any, *arguments: Any) -> Any:
    """A function of NumPy's C API as a ctypes callable that holds the GIL."""
    return ctypes.PYFUNCTYPE(result, *arguments)(numpy_api()[name])
