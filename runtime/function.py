"""Compiled functions as Python objects: the heap type `CompiledFunction`, its instances and their entries.

The type's slots are native code that some upper layer compiled from `codegen/entry.py` and installed here. Instances
are made by `make_function`; `add_entry` gives one more specialisation. Python methods (`graph`, `explain`, …) are set
on the type itself by the layer that knows them.

Invariant: nothing that a user can assign reaches the tables; they change only through this file, under the GIL and a
lock, and an entry that was removed lives on while a call in another thread still uses it.
"""

from __future__ import annotations

import ctypes
import inspect
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from stager.ir.entry_table import ENTRY, FUNCTION, SIGNATURE, EntryFlags, SignatureFlags
from stager.runtime.entries import Entry, EntrySpec
from stager.runtime.entry_programs import bound_parameters
from stager.runtime.layout import numpy_api, python_layout
from stager.runtime.tables import Memory, pack

_lock = threading.RLock()


class _Retry:
    """What a miss returns to have the entries tried again (it has just added one)."""

    def __repr__(self) -> str:
        return "stager.runtime.function.RETRY"


RETRY = _Retry()

# --- the installed native code

_installed: dict[str, int] = {}
_type: type | None = None
_forever: list[Any] = []  # memory that the type refers to
# Cells with the capsules of the memory handlers that results are freed through.
_handlers = {name: ctypes.c_uint64() for name in ("small", "pool")}
TYPE_NAME = "stager.CompiledFunction"

_SLOTS = {
    "tp_call": 50, "tp_clear": 51, "tp_dealloc": 52, "tp_descr_get": 54, "tp_getattro": 58, "tp_setattro": 69,
    "tp_traverse": 71, "tp_members": 72, "tp_getset": 73,
}  # fmt: skip
_DISALLOW_INSTANTIATION, _HAVE_VECTORCALL, _HAVE_GC, _METHOD_DESCRIPTOR = 1 << 7, 1 << 11, 1 << 14, 1 << 17
_DEFAULT = 1 << 18
_T_PYSSIZET, _READONLY = 19, 1


class _Member(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p), ("type", ctypes.c_int), ("offset", ctypes.c_ssize_t), ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]  # fmt: skip


class _GetSet(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p), ("get", ctypes.c_void_p), ("set", ctypes.c_void_p), ("doc", ctypes.c_char_p),
        ("closure", ctypes.c_void_p),
    ]  # fmt: skip


class _Slot(ctypes.Structure):
    _fields_ = [("slot", ctypes.c_int), ("pfunc", ctypes.c_void_p)]


class _Spec(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p), ("basicsize", ctypes.c_int), ("itemsize", ctypes.c_int), ("flags", ctypes.c_uint),
        ("slots", ctypes.POINTER(_Slot)),
    ]  # fmt: skip


class _Handler(ctypes.Structure):
    """NumPy's PyDataMem_Handler, version 1."""

    _fields_ = [
        ("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), ("ctx", ctypes.c_void_p),
        ("malloc", ctypes.c_void_p), ("calloc", ctypes.c_void_p), ("realloc", ctypes.c_void_p),
        ("free", ctypes.c_void_p),
    ]  # fmt: skip


def external_address(name: str) -> int | None:
    """The address of an external of the entry module: NumPy's, CPython's or this file's; None when it is another."""
    if name.startswith("stager_numpy_"):
        return numpy_api()[name.removeprefix("stager_numpy_")]
    if name.startswith("stager_entry_") and name.endswith("_handler"):
        return ctypes.addressof(_handlers[name.removeprefix("stager_entry_").removesuffix("_handler")])
    if not name.startswith(("Py", "_Py")):
        return None
    return ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, name))


def install(addresses: Mapping[str, int]) -> None:
    """Give the type its native code: the addresses of the entry module's exports. Only the first call has an effect."""
    global _type
    with _lock:
        if _type is not None:
            return
        python_layout()
        _installed.update(addresses)
        for name, cell in _handlers.items():
            cell.value = _make_handler(name)
        _type = _make_type()


def _make_handler(kind: str) -> int:
    """The capsule that NumPy frees results through. It lives for ever: arrays may outlast everything else."""
    handler = _Handler(name=b"stager_" + kind.encode(), version=1)
    for slot in ("malloc", "calloc", "realloc", "free"):
        setattr(handler, slot, _installed[f"stager_entry_{kind}_{slot}"])
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p] * 3
    name = ctypes.create_string_buffer(b"mem_handler")
    capsule = new(ctypes.addressof(handler), ctypes.addressof(name), None)
    _forever.extend((handler, name, capsule))
    return id(capsule)


def _api(name: str) -> int:
    address = external_address(name)
    assert address is not None
    return address


def _make_type() -> type:
    members = (_Member * 4)(
        _Member(b"__vectorcalloffset__", _T_PYSSIZET, FUNCTION.offset("vectorcall"), _READONLY, None),
        _Member(b"__dictoffset__", _T_PYSSIZET, FUNCTION.offset("dict"), _READONLY, None),
        _Member(b"__weaklistoffset__", _T_PYSSIZET, FUNCTION.offset("weakrefs"), _READONLY, None),
        _Member(),
    )
    getset = (_GetSet * 2)(
        _GetSet(b"__dict__", _api("PyObject_GenericGetDict"), _api("PyObject_GenericSetDict"), None, None), _GetSet()
    )
    values = {
        "tp_call": _api("PyVectorcall_Call"),
        "tp_clear": _installed["stager_entry_clear"],
        "tp_dealloc": _installed["stager_entry_dealloc"],
        "tp_descr_get": _installed["stager_entry_descr_get"],
        "tp_getattro": _api("PyObject_GenericGetAttr"),
        "tp_setattro": _api("PyObject_GenericSetAttr"),
        "tp_traverse": _installed["stager_entry_traverse"],
        "tp_members": ctypes.addressof(members),
        "tp_getset": ctypes.addressof(getset),
    }
    slots = (_Slot * (len(values) + 1))(*(_Slot(_SLOTS[name], value) for name, value in values.items()), _Slot())
    spec = _Spec(
        TYPE_NAME.encode(), FUNCTION.size, 0,
        _DEFAULT | _HAVE_VECTORCALL | _HAVE_GC | _METHOD_DESCRIPTOR | _DISALLOW_INSTANTIATION, slots,
    )  # fmt: skip
    _forever.extend((members, getset, slots, spec))
    from_spec = ctypes.pythonapi.PyType_FromSpec
    from_spec.restype, from_spec.argtypes = ctypes.py_object, [ctypes.c_void_p]
    made: Any = from_spec(ctypes.addressof(spec))
    made.__doc__ = "A function compiled by stager: NumPy arrays go in, NumPy arrays come out."
    for method in (_repr, _reduce, _copy, _deepcopy):
        name = f"__{method.__name__.strip('_')}__"
        method.__name__, method.__qualname__ = name, f"CompiledFunction.{name}"
        setattr(made, name, method)
    return made  # type: ignore[no-any-return]


def _repr(self: Any) -> str:
    name = getattr(self, "__qualname__", None) or getattr(self, "__name__", "?")
    return f"<compiled function {name} at {id(self):#x}>"


def _reduce(self: Any) -> Any:
    reduce = self.__dict__.get("__stager_reduce__")
    if reduce is None:
        raise TypeError(f"cannot pickle {self!r}")
    return reduce(self)


def _copy(self: Any) -> Any:
    return self


def _deepcopy(self: Any, memo: Any) -> Any:
    return self


def compiled_function_type() -> type:
    """`CompiledFunction`, to set Python methods on. RuntimeError before `install`."""
    if _type is None:
        raise RuntimeError("the native entry is not installed")
    return _type


def is_compiled_function(obj: Any) -> bool:
    """Whether `obj` is a compiled function (false before the first one is made)."""
    return _type is not None and type(obj) is _type


# --- instances


def _word(address: int) -> Any:
    return ctypes.c_uint64.from_address(address)


def _field(function: Any, name: str) -> Any:
    """A pointer field of a function, as a ctypes number whose `value` can be read and assigned."""
    if not is_compiled_function(function):
        raise TypeError(f"{function!r} is not a compiled function")
    return _word(id(function) + FUNCTION.offset(name))


def _set_strong(function: Any, name: str, value: Any) -> None:
    """Assign a field that holds a reference."""
    place = _field(function, name)
    before = place.value
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
    place.value = id(value)
    if before:
        ctypes.pythonapi.Py_DecRef(ctypes.cast(before, ctypes.py_object))


def make_function(
    miss: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any],
    *,
    name: str,
    qualname: str | None = None,
    module: str | None = None,
    doc: str | None = None,
    signature: inspect.Signature,
    wrapped: Any = None,
    annotations: Mapping[str, Any] | None = None,
    reduce: Callable[[Any], Any] | None = None,
) -> Any:
    """A new compiled function without entries.

    `miss(function, args, kwargs)` answers the calls that no entry takes: it returns the result, or `RETRY` after
    `add_entry` to have the call made natively. Calls whose arguments do not fit `signature` come there too. `reduce`
    pickles: it gets the function and returns what `__reduce__` returns.
    """
    cls = compiled_function_type()
    allocate = ctypes.pythonapi.PyType_GenericAlloc
    allocate.restype, allocate.argtypes = ctypes.py_object, [ctypes.py_object, ctypes.c_ssize_t]
    function = allocate(cls, 0)
    table = SignatureTable(signature)
    _set_strong(function, "owner", [table])
    _set_strong(function, "miss", miss)
    _field(function, "retry").value = id(RETRY)
    _field(function, "signature").value = table.address
    attributes = {
        "__name__": name,
        "__qualname__": qualname or name,
        "__module__": module,
        "__doc__": doc,
        "__signature__": signature,
        "__annotations__": dict(annotations or {}),
    }
    function.__dict__.update(attributes)
    if wrapped is not None:
        function.__wrapped__ = wrapped
    if reduce is not None:
        function.__dict__["__stager_reduce__"] = reduce
    _field(function, "vectorcall").value = _installed["stager_entry_vectorcall"]
    return function


def set_signature(function: Any, signature: inspect.Signature) -> None:
    """Other defaults from the next call on. A call that is under way keeps the table that it reads."""
    table = SignatureTable(signature)
    with _lock:
        owner = _owner(function)
        owner.append(owner[0])
        owner[0] = table
        function.__dict__["__signature__"] = signature
        _field(function, "signature").value = table.address


class SignatureTable:
    """How arguments are bound: `address` is its SIGNATURE record. A later `__signature__` changes nothing of it."""

    def __init__(self, signature: inspect.Signature) -> None:
        self.signature = signature
        self.memory = Memory()
        self.address = _write_signature(signature, self.memory)


def _write_signature(signature: inspect.Signature, memory: Memory) -> int:
    kinds = [p.kind for p in signature.parameters.values()]
    parameters = bound_parameters(signature)
    only = kinds.count(inspect.Parameter.POSITIONAL_ONLY)
    positional = only + kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD)
    flags = SignatureFlags(0)
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        flags |= SignatureFlags.VARARGS
    if inspect.Parameter.VAR_KEYWORD in kinds:
        flags |= SignatureFlags.VARKW
    if not flags and positional == len(parameters):
        flags |= SignatureFlags.DIRECT
    defaults = [0 if p.default is inspect.Parameter.empty else memory.hold(p.default) for p in parameters]
    names = memory.objects([sys.intern(p.name) for p in parameters])
    return memory.bytes(
        pack(
            SIGNATURE, positional_only=only, positional=positional, parameters=len(parameters), flags=flags,
            names=names, defaults=memory.addresses(defaults),
        )
    )  # fmt: skip


def _owner(function: Any) -> list[Any]:
    address = _field(function, "owner").value
    return ctypes.cast(address, ctypes.py_object).value if address else []


def entries(function: Any) -> list[Entry]:
    """The entries of a function, oldest first."""
    return [e for e in _owner(function) if isinstance(e, Entry)]


def add_entry(function: Any, spec: EntrySpec) -> Entry:
    """Give `function` one more specialisation, which the next call tries first.

    ValueError or TypeError when the spec contradicts itself or the signature.
    """
    owner = _owner(function)
    entry = Entry(spec, owner[0].signature)
    with _lock:
        before = entries(function)
        owner.append(entry)
        link = _word(before[-1].address + ENTRY.offset("next")) if before else _field(function, "first")
        link.value = entry.address
        _field(function, "hot").value = entry.address
    return entry


def clear_entries(function: Any) -> None:
    """Remove all entries; calls that run in other threads end as they began."""
    with _lock:
        # Another thread may call between any two of these steps. A retired entry is never made the hot one, so all are
        # retired before `hot` is cleared, and it is cleared last: nothing can point to them when their memory goes.
        removed = entries(function)
        for entry in removed:
            flags = ctypes.c_int32.from_address(entry.address + ENTRY.offset("flags"))
            flags.value |= EntryFlags.RETIRED
        _field(function, "first").value = 0
        _field(function, "hot").value = 0
        for entry in removed:
            _word(entry.address + ENTRY.offset("next")).value = 0
        owner = _owner(function)
        owner[:] = [o for o in owner if not isinstance(o, Entry)]


def mismatches(function: Any) -> list[str]:
    """Why each entry, oldest first, did not take the last call that it declined; empty when there was none."""
    return [entry.failed() or "" for entry in entries(function)]
