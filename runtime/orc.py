"""Linking one object into this process by LLVM's ORC: for every machine and file format that `elf.py` does not know."""

from __future__ import annotations

import atexit
import itertools
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

_numbers = itertools.count()


def link(code: bytes, externals: Mapping[str, int]) -> tuple[Callable[[str], int], Callable[[], None]]:
    """Link an object: (a function that gives the address of a defined symbol, the function that frees it).

    Both raise RuntimeError with LLVM's text: ORC links at the first look-up, so a missing symbol shows only there.
    """
    from llvmlite.binding import orcjit

    jit, name = _jit(), f"stager{next(_numbers)}"
    builder = orcjit.JITLibraryBuilder().add_object_img(code).add_current_process()
    for symbol, address in externals.items():
        builder.import_symbol(symbol, address)
    tracker = builder.link(jit, name)

    def find(symbol: str) -> int:
        found = jit.lookup(name, symbol)
        address = int(found[symbol])
        found.detach()  # disposing of it would unload the whole library
        return address

    return find, tracker.close


@cache
def _jit() -> Any:
    import llvmlite.binding as llvm
    from llvmlite.binding import orcjit

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), reloc="pic", codemodel="small", jit=True
    )
    # JITLink puts all sections of an object side by side and far calls through stubs, so that the small code model
    # holds wherever libraries are mapped; RuntimeDyld leaves that to chance.
    jit = orcjit.create_lljit_compiler(machine, use_jit_link=True, suppress_errors=True)
    atexit.register(jit.detach)  # code that runs while the interpreter is torn down must still be there
    return jit
