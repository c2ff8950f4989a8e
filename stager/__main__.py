"""`python -m stager`: look at what a function becomes (`show`), build it as a library (`build`), save it (`export`)."""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import sys
from pathlib import Path
from typing import Any

FORMS = {"llvm": "llvm", "asm": "assembly", "mlir": "mlir"}  # of `--emit`, with the keywords of `build`


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
    from stager.aot.functions import bound_specs, plain_function
    from stager.aot.specs import parse_spec
    from stager.stages import stage_text
    from stager.transforms.shapes import trace_types

    fn = plain_function(load_function(options.function))
    if options.transform:
        import stager as st

        for name in options.transform:
            fn = getattr(st, name)(fn)
    bound = bound_specs(fn, [parse_spec(text) for text in options.spec], options.function)
    print(stage_text(trace_types(fn, bound.args, bound.kwargs, any_int=True).graph, options.stage))


def build(options: argparse.Namespace) -> None:
    """Build functions into a library."""
    from stager.aot.build import Member
    from stager.aot.build import build as build_library
    from stager.aot.manifest import default_name, literal, read_manifest

    named: dict[str, Any] = {
        "name": options.name, "target": options.target, "cpu": options.cpu, "weights": options.weights,
        "threads": options.threads, "blas": options.blas, "static": options.static, "shared": options.shared,
        "emit": options.emit,
    }  # fmt: skip
    chosen = {k: v for k, v in named.items() if v is not None}
    if options.function.endswith(".toml"):
        path = Path(options.function)
        sys.path.insert(0, str(path.resolve().parent))
        functions, listed = read_manifest(path, load_function)
        chosen = listed | chosen
    else:
        name = options.name or default_name(options.function)
        functions = {
            name: Member(
                load_function(options.function), options.spec, tuple(filter(None, options.with_.split(","))),
                literal(options.argnums, "--argnums"), literal(options.in_dims, "--in-dims"), options.strided,
            )
        }  # fmt: skip
    emit = set(chosen.pop("emit", ()))
    if emit - FORMS.keys():
        raise SystemExit(f"stager: emit knows {', '.join(FORMS)}, not {', '.join(sorted(emit - FORMS.keys()))}")
    chosen |= {keyword: form in emit for form, keyword in FORMS.items()}
    built = build_library(
        functions, options.output, progress=lambda text: print(f"stager: {text}", file=sys.stderr), **chosen
    )
    print(built.summary)


def export(options: argparse.Namespace) -> None:
    """Save a function's graph as text."""
    from stager.aot.specs import parse_spec
    from stager.exported import export as exported

    made = exported(load_function(options.function), *map(parse_spec, options.spec))
    path = options.output or f"{made.__name__}.stager"
    made.save(path)
    print(f"{path}: {made!r}")


def _build_options(built: argparse.ArgumentParser) -> None:
    built.add_argument("function", help="module:function, or a TOML file that lists several (stager/aot/manifest.py)")
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
        "--with", dest="with_", default="", metavar="LIST",
        help="transforms to build beside it: grad, value_and_grad, jacfwd, jacrev, hessian, vmap, vjp, jvp",
    )  # fmt: skip
    built.add_argument("--argnums", default="0", help="which arguments they differentiate: 1, or (0, 2)")
    built.add_argument("--in-dims", default="0", help="which axes vmap maps: 0, or (None, 0)")
    built.add_argument("--strided", action="store_true", help="arrays may come with strides")
    built.add_argument("--target", help="host (the default), a target of the table or a triple")
    built.add_argument(
        "--cpu", metavar="LIST", help="x86-64: the CPUs that get code of their own, like x86-64-v2,v3,v4 or v2,native"
    )
    built.add_argument("--weights", choices=("argument", "embed"), help="captured arrays: arguments or constants")
    built.add_argument("--no-threads", dest="threads", action="store_false", default=None, help="leave the pool out")
    built.add_argument("--blas", metavar="NAME", help="large products by this BLAS: openblas, or a library's path")
    built.add_argument("--static", action="store_true", default=None, help="a static library too")
    built.add_argument(
        "--no-shared", dest="shared", action="store_false", default=None, help="the object and the header only"
    )
    built.add_argument("--emit", action="append", default=None, choices=tuple(FORMS), help="also write this form")
    built.set_defaults(run=build)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    from stager.errors import StagerError
    from stager.stages import STAGES

    parser = argparse.ArgumentParser(prog="python -m stager", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    shown = commands.add_parser("show", help="print a function at a stage of its way to machine code")
    shown.add_argument("function", help="module:function")
    shown.add_argument(
        "--spec",
        action="append",
        default=[],
        metavar="TYPE",
        help="the type (or nesting of types) of an argument, like 'f64[3,4]'; once per argument",
    )
    shown.add_argument("--stage", default="passes", choices=STAGES)
    shown.add_argument(
        "--transform",
        action="append",
        default=[],
        choices=("vmap", "grad", "value_and_grad", "functionalize", "hessian"),
        help="apply a transform first; the last one given is outermost",
    )
    shown.set_defaults(run=show)
    _build_options(commands.add_parser("build", help="build functions into an object, a shared library and a C header"))
    saved = commands.add_parser("export", help="save a function's graph as text for stager.import_")
    saved.add_argument("function", help="module:function")
    saved.add_argument(
        "--spec",
        action="append",
        default=[],
        metavar="TYPE",
        help="the type (or nesting of types) of an argument, like 'f64[n,784]'; once per argument",
    )
    saved.add_argument("-o", "--output", metavar="FILE", help="the file to write (FUNCTION.stager)")
    saved.set_defaults(run=export)
    options = parser.parse_args(argv)
    try:
        options.run(options)
    except (StagerError, ValueError) as e:
        print(f"stager: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    gc.set_threshold(200_000)  # a short life: collecting takes a seventh of a small build,
    status = main()
    gc.freeze()  # and looking through all that is left, at the end, as much again
    sys.exit(status)
