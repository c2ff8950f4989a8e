"""`python -m stager`: look at what a function becomes (`show`), build it into a library (`build`)."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import Any


def load_function(target: str) -> Any:
    """The object that `module:name` names; the current folder is importable. SystemExit when there is none."""
    module_name, _, name = target.partition(":")
    if not name:
        raise SystemExit(f"stager: {target!r} does not read like module:function")
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except ImportError as e:
        raise SystemExit(f"stager: cannot import {module_name!r}: {e}") from None
    except AttributeError:
        raise SystemExit(f"stager: module {module_name!r} has no {name!r}") from None
    return found


def show(options: argparse.Namespace) -> None:
    """Print what stands after a stage."""
    from stager.aot.functions import plain_function
    from stager.explain import stage_text
    from stager.transforms.shapes import trace_types

    fn = plain_function(load_function(options.function))
    if options.transform:
        import stager as st

        for name in options.transform:
            fn = getattr(st, name)(fn)
    print(stage_text(trace_types(fn, tuple(options.spec), {}).graph, options.stage))


def build(options: argparse.Namespace) -> None:
    """Build functions into a library."""
    from stager.aot.build import build as build_library
    from stager.aot.functions import TRANSFORMS, transformed

    fn = load_function(options.function)
    name = options.name or options.function.partition(":")[2].replace(".", "_")
    functions: dict[str, Any] = {name: (fn, options.spec)}
    for kind in filter(None, options.with_.split(",")):
        if kind not in TRANSFORMS:
            raise SystemExit(f"stager: --with knows {', '.join(TRANSFORMS)}, not {kind!r}")
        if kind in ("jvp", "vjp", "vmap"):
            raise SystemExit(
                f"stager: --with {kind} needs specs of its own; write a function that calls st.{kind} and build that"
            )
        functions[f"{name}_{kind}"] = (transformed(fn, kind), options.spec)
    built = build_library(
        functions, options.output, name=name, target=options.target,
        weights=options.weights, shared=not options.no_shared, static=options.static,
        llvm="llvm" in options.emit, assembly="asm" in options.emit,
        progress=lambda text: print(f"stager: {text}", file=sys.stderr),
    )  # fmt: skip
    print(built.summary)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    from stager.errors import StagerError

    parser = argparse.ArgumentParser(prog="python -m stager", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    shown = commands.add_parser("show", help="print a function at a stage of its way to machine code")
    shown.add_argument("function", help="module:function")
    shown.add_argument(
        "--spec",
        action="append",
        default=[],
        metavar="TYPE",
        help="the type of an argument, like 'f64[3,4]'; once per argument",
    )
    shown.add_argument("--stage", default="passes", choices=("graph", "passes", "kernels", "mlir", "llvm", "asm"))
    shown.add_argument(
        "--transform",
        action="append",
        default=[],
        choices=("vmap", "grad", "value_and_grad", "functionalize", "hessian"),
        help="apply a transform first; the last one given is outermost",
    )
    shown.set_defaults(run=show)
    built = commands.add_parser("build", help="build a function into an object, a shared library and a C header")
    built.add_argument("function", help="module:function")
    built.add_argument(
        "--spec",
        action="append",
        default=[],
        metavar="TYPE",
        help="the type (or nesting of types) of an argument, like 'f64[n,784]'; once per argument",
    )
    built.add_argument("-o", "--output", default="out", help="the folder to write to")
    built.add_argument("--name", help="the function's name in C")
    built.add_argument(
        "--with", dest="with_", default="", metavar="LIST", help="transforms to build beside it: grad,value_and_grad"
    )
    built.add_argument("--target", default="host", help="host or a target of the table")
    built.add_argument(
        "--weights", default="argument", choices=("argument", "embed"), help="captured arrays: arguments or constants"
    )
    built.add_argument("--static", action="store_true", help="a static library too")
    built.add_argument("--no-shared", action="store_true", help="the object and the header only")
    built.add_argument("--emit", action="append", default=[], choices=("llvm", "asm"), help="also write this form")
    built.set_defaults(run=build)
    options = parser.parse_args(argv)
    try:
        options.run(options)
    except (StagerError, ValueError) as e:
        print(f"stager: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
