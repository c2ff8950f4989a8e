"""stager: write NumPy; get vmap, grad, jvp and functionalize in any nesting, as native code."""

from __future__ import annotations

import importlib as _importlib
import os as _os
from typing import Any as _Any

# A checkout that lost its relative links (Windows) still finds ir/, codegen/ and runtime/ beside this folder.
if not _os.path.isdir(_os.path.join(__path__[0], "ir")):
    __path__.append(_os.path.dirname(__path__[0]))

__version__ = "0.1.0"

# Public name -> the module that defines it. Modules load at first use, so `import stager` is quick.
_PUBLIC = {
    "vmap": "stager.transforms.vmap",
    "grad": "stager.transforms.grad",
    "value_and_grad": "stager.transforms.grad",
    "grad_and_value": "stager.transforms.grad",
    "vjp": "stager.transforms.grad",
    "jvp": "stager.transforms.jvp",
    "jacfwd": "stager.transforms.jacobian",
    "jacrev": "stager.transforms.jacobian",
    "jacobian": "stager.transforms.jacobian",
    "hessian": "stager.transforms.jacobian",
    "hvp": "stager.transforms.jacobian",
    "linearize": "stager.transforms.linearize",
    "linear_transpose": "stager.transforms.linearize",
    "stop_gradient": "stager.transforms.stops",
    "checkpoint": "stager.transforms.checkpoint",
    "checkpoint_name": "stager.transforms.checkpoint",
    "custom_jvp": "stager.transforms.custom",
    "custom_vjp": "stager.transforms.custom",
    "custom_vmap": "stager.transforms.custom",
    "psum": "stager.collectives",
    "pmean": "stager.collectives",
    "pmax": "stager.collectives",
    "pmin": "stager.collectives",
    "all_gather": "stager.collectives",
    "axis_index": "stager.collectives",
    "elementwise_op": "stager.extend",
    "build": "stager.aot.build",
    "Member": "stager.aot.build",
    "export": "stager.exported",
    "import_": "stager.exported",
    "load": "stager.aot.load",
    "eval_shape": "stager.transforms.shapes",
    "make_graph": "stager.transforms.shapes",
    "compile": "stager.compiler",
    "functionalize": "stager.transforms.functionalize",
    "fori_loop": "stager.control",
    "while_loop": "stager.control",
    "scan": "stager.control",
    "cond": "stager.control",
    "switch": "stager.control",
    "map": "stager.control",
    "associative_scan": "stager.control",
    "do_not_convert": "stager.capture",
    "no_grad": "stager.interpreters.modes",
    "enable_grad": "stager.interpreters.modes",
    "set_grad_enabled": "stager.interpreters.modes",
    "set_fwd_grad_enabled": "stager.interpreters.modes",
    "is_grad_enabled": "stager.interpreters.modes",
    "Array": "stager.array",
    "register_container": "stager.runtime.structure",
}

_MODULES = ("functorch", "numpy", "random", "testing")

__all__ = sorted([*_PUBLIC, *_MODULES])  # noqa: PLE0605  (the table above is the list)


def __getattr__(name: str) -> _Any:
    if name in _MODULES:
        return _importlib.import_module(f"stager.{name}")
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module 'stager' has no attribute {name!r}")
    value = getattr(_importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
