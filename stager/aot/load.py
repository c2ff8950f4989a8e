"""`load`: a Python function of a built library, on the same native entry as compiled functions."""

from __future__ import annotations

import ctypes
import inspect
import json
import os
from typing import Any

from stager.aot.build import METADATA_FORMAT
from stager.aot.errors import BuildError
from stager.errors import UnsupportedError


def load(path: str | os.PathLike[str], function: str | None = None) -> Any:
    """A function of a built library, as a Python function with native checks of its arguments.

    function: its name, where the library has several. BuildError when the file is no library of stager's.
    """
    from stager.ir.abi_json import from_json
    from stager.runtime import patterns as p
    from stager.runtime.entries import EntrySpec
    from stager.runtime.function import add_entry, make_function
    from stager.support import install_entry

    path = os.path.abspath(path)
    try:
        library = ctypes.CDLL(path)
        size = ctypes.c_int64.in_dll(library, "stager_metadata_bytes").value
        text = bytes((ctypes.c_char * size).in_dll(library, "stager_metadata"))
    except (OSError, ValueError) as e:
        raise BuildError(f"{path} is not a library that stager built: {e}") from None
    metadata = json.loads(text)
    if metadata["format"] != METADATA_FORMAT:
        raise BuildError(f"{path} has format {metadata['format']}; this stager reads {METADATA_FORMAT}")
    by_name = {f["name"]: f for f in metadata["functions"]}
    if function is None and len(by_name) > 1:
        raise BuildError(f"{path} holds {', '.join(by_name)}: say which")
    record = by_name.get(function or next(iter(by_name)))
    if record is None:
        raise BuildError(f"{path} holds {', '.join(by_name)}, not {function!r}")
    abi = from_json(record["abi"])
    address = ctypes.cast(getattr(library, abi.name), ctypes.c_void_p).value
    assert address is not None
    names = record["inputs"]
    signature = inspect.Signature([inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in names])
    install_entry()

    def miss(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        signature.bind(*args, **kwargs)
        wanted = ", ".join(f"{n}: {i.type}" for n, i in zip(names, abi.inputs, strict=True))
        raise UnsupportedError(f"{record['name']} of {os.path.basename(path)} takes ({wanted}), C-contiguous")

    made = make_function(
        miss, name=record["name"], signature=signature, module=None, reduce=lambda self: (load, (path, record["name"]))
    )
    fresh = tuple([p.Output(k) for k, o in enumerate(abi.outputs) if o.kind == "fresh"])
    result = fresh[0] if len(fresh) == 1 else p.MakeTuple(fresh)
    leaves = tuple([p.Leaf(k) for k in range(len(names))])
    add_entry(made, EntrySpec(abi, address, leaves, result, keepalive=(library,)))
    return made
