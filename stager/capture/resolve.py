"""`resolve`: what a call in converted code really calls.

By identity of the callee: an entry of the substitution table; a function of the user, converted in turn (functions,
methods, partials, classes with a Python `__init__`, objects with a Python `__call__`); anything else as it is. Callees
that are not the user's see captured lists and dicts as mirrors that hold tracers, because they read them unseen.
Randomness that NumPy or Python would draw while tracing, and so freeze, is an error.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections import deque
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np

from stager.capture import objects, texts
from stager.capture.generators import NESTED, keeping
from stager.capture.session import TRACERS, Session, holds_tracer
from stager.capture.table import SUBSTITUTES
from stager.capture.touched import held, refuse_unseen
from stager.capture.unseen import SHOWING, converted, guard_names, watching
from stager.capture.users import is_user_file
from stager.numpy.scipy_functions import scipy_function

_GENERATOR = inspect.CO_GENERATOR
_LRU = type(functools.lru_cache(lambda: None))
_STABLE: tuple[type, ...] = ()


def still_stable(value: Any) -> bool:
    """A module, function or class: what converted code loads without a hook."""
    global _STABLE
    if not _STABLE:
        from stager.capture.rewrite import STABLE_TYPES

        _STABLE = STABLE_TYPES
    return isinstance(value, _STABLE)


def resolve(f: Any, s: Session) -> Any:
    """The callable that stands in for `f` while `s` traces."""
    replacement = SUBSTITUTES.get(f)
    if replacement is not None:
        stand_in = mirroring(watching(replacement, s, f) if id(f) in SHOWING else replacement, s, f)
        return joining(f, stand_in, s) if getattr(f, "__module__", None) == "numpy" else stand_in
    t = type(f)
    if t is np.ufunc or t is _DISPATCHED:
        return _numpy(f, s)
    if t is FunctionType:
        if is_user_file(f.__code__.co_filename):
            return convert_user(f, s)
        return scipy_function(f) or _wrapper(f, s) or _foreign(f, s)
    if t is MethodType:
        return _method(f, s)
    if t is BuiltinFunctionType or t is _METHOD_WRAPPER:
        return _builtin(f, s)
    if isinstance(f, type):
        return _class(f, s)
    if t is functools.partial:
        func = resolve(f.func, s)
        origin = s.path_of(f)
        if origin is not None:
            args = [s.load(f, ("item", i), (*origin, ("attr", "args"), ("item", i)), a) for i, a in enumerate(f.args)]
            keywords = {
                k: s.load(f, ("item", k), (*origin, ("attr", "keywords"), ("item", k)), v)
                for k, v in f.keywords.items()
            }
            return functools.partial(func, *args, **keywords)
        return functools.partial(func, *f.args, **f.keywords) if func is not f.func else f
    if t is np.vectorize:
        from stager.numpy import vectorized

        return functools.partial(vectorized.call, f, resolve(s.attribute(f, "pyfunc", f.pyfunc), s))
    if t is _LRU and isinstance(f.__wrapped__, FunctionType):
        return resolve(f.__wrapped__, s)  # a cache would keep tracers
    call = next((c.__dict__["__call__"] for c in t.__mro__ if "__call__" in c.__dict__), None)
    if type(call) is FunctionType and is_user_file(call.__code__.co_filename):
        return MethodType(convert_user(call, s), f)
    _refuse_randomness(f)
    return _foreign(f, s)


def convert_user(f: Any, s: Session, form: str = "") -> Any:
    """A user's function, converted, with its module-level names guarded in this session.

    form: of a generator function, the one that takes a consumer (`yields.py`).
    """
    from stager.capture.convert import convert, hooks_of, is_converted, restale

    if type(f) is not FunctionType:
        return f
    made: Any = convert(f, form)
    if made is f:
        if not is_converted(f) and id(f) not in s.entered:
            s.entered.add(id(f))
            s.kept.append(f)
            guard_names(s, f)
        return keeping(f, f, s) if NESTED in f.__dict__ else f
    hooks = hooks_of(made)
    if hooks is not None and id(hooks) not in s.entered and not hooks.enter(s):
        restale(f)
        made = convert(f, form)
        hooks = hooks_of(made)
        if hooks is not None:
            hooks.enter(s)
    return keeping(made, f, s) if not form and f.__code__.co_flags & _GENERATOR else made


def convert_root(f: Any, s: Session) -> Any:
    """The callable given to a transform: converted wherever its source stands."""
    if type(f) is FunctionType:
        # stager's own wrappers (a transform of a transform) run as they are and convert what they call
        if f.__globals__.get("__name__", "").startswith("stager."):
            return f
        return scipy_function(f) or convert_user(f, s)
    if type(f) is MethodType and type(f.__func__) is FunctionType:
        s.add_root(f.__self__)
        return MethodType(convert_user(f.__func__, s), f.__self__)
    if not isinstance(f, type) and type(f) not in (BuiltinFunctionType, np.ufunc):
        s.add_root(f)
    return resolve(f, s)


def _wrapper(f: FunctionType, s: Session) -> Any:
    """What a decorator of the standard library made of a function of the user, around the converted one; else None."""
    if f.__code__ is _CONTEXT.__code__ and type(f.__wrapped__) is FunctionType:  # type: ignore[attr-defined]
        return contextlib.contextmanager(convert_user(f.__wrapped__, s))  # type: ignore[attr-defined]
    if f.__code__ is not _SINGLE.__code__:
        return None
    dispatch: Any = f.dispatch  # type: ignore[attr-defined]

    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        cls = type(x)
        if cls in TRACERS:
            from stager.capture.builtins import class_like

            cls = class_like(x)
        return resolve(dispatch(cls), s)(x, *args, **kwargs)

    return call


def _enter_nothing() -> Iterator[None]:
    yield


_CONTEXT: Any = contextlib.contextmanager(_enter_nothing)
_SINGLE: Any = functools.singledispatch(lambda x: x)


def _method(f: MethodType, s: Session) -> Any:
    func = f.__func__
    if type(func) is FunctionType and is_user_file(func.__code__.co_filename):
        return MethodType(convert_user(func, s), f.__self__)
    _refuse_randomness(f)
    return _foreign(f, s)


def _builtin(f: Any, s: Session) -> Any:
    owner = f.__self__
    if type(owner) is str and f.__name__ == "format":
        return lambda *args, **kwargs: f(*map(texts.plain, args), **{k: texts.plain(v) for k, v in kwargs.items()})
    if isinstance(owner, np.ndarray):
        return _OnArray(f, owner)
    if type(owner) is list and f.__name__ == "sort":
        from stager.capture.ordering import sort

        return functools.partial(sort, owner)
    _refuse_randomness(f)
    return _foreign(f, s)


def _class(cls: type, s: Session) -> Any:
    init: Any = getattr(cls, "__init__")  # noqa: B009  (mypy finds the plain access unsound)
    new: Any = getattr(cls, "__new__")  # noqa: B009
    plain = (
        type(cls) is type
        and type(init) is FunctionType
        and new is object.__new__
        and is_user_file(init.__code__.co_filename)
    )
    if not plain:
        return _foreign(cls, s)
    if "__dataclass_fields__" in cls.__dict__ and init.__qualname__ == f"{cls.__qualname__}.__init__":
        from stager.capture.copies import dataclass_maker

        maker = dataclass_maker(cls, init, s)
        if maker is not None:
            return maker
    converted = convert_user(init, s)

    def construct(*args: Any, **kwargs: Any) -> Any:
        obj = new(cls)
        converted(obj, *args, **kwargs)
        return obj

    return construct if converted is not init else cls


def _refuse_randomness(f: Any) -> None:
    owner = getattr(f, "__self__", None)
    python, numpy = sys.modules.get("random"), sys.modules.get("numpy.random")  # NumPy loads its own at first use
    drawn = numpy and (
        isinstance(owner, numpy.Generator | numpy.RandomState | numpy.BitGenerator) or f is numpy.default_rng
    )
    if drawn or (python and isinstance(owner, python.Random)):
        from stager.errors import UnsupportedError, describe

        called = getattr(f, "__name__", "a random function")
        ours = called if called in _OURS else "uniform"
        module = "random" if python and isinstance(owner, python.Random) else "np.random"
        raise UnsupportedError(
            describe(
                f"{module}.{called} would be drawn once, while tracing, and stay the same in every call",
                remedy=f"st.random.{ours} with an explicit key, or pass the numbers in",
            )
        )


_OURS = frozenset({"uniform", "normal", "integers", "permutation", "choice", "bits"})


def _foreign(f: Any, s: Session) -> Any:
    """Code that is not converted: it reads captured containers through mirrors, because it reads them unseen."""
    return mirroring(watching(f, s), s, f)


def mirroring(f: Callable[..., Any], s: Session, original: Any = None) -> Callable[..., Any]:
    """`f` on mirrors. Whether there are any shows when it is called: its arguments are read after its name.

    A builtin that stands for a special method of its argument calls the user's, converted.
    """
    name = objects.BUILTINS.get(id(original))
    seen = objects.iterated if id(original) in objects.ITERATING else objects.mirrored

    def call(*args: Any, **kwargs: Any) -> Any:
        if name is not None and args:
            own = objects.method(s, args[0], name)
            if own is not None:
                return own(*args[1:], **kwargs)
        shown = [seen(s, a) for a in args]
        mirrors = [(a, m, held(m)) for a, m in zip(args, shown, strict=True) if m is not a and type(m) in _CHANGEABLE]
        result = f(*shown, **{k: objects.mirrored(s, v) for k, v in kwargs.items()})
        for given, mirror, before in mirrors:
            refuse_unseen(s, given, mirror, before)
        return result

    return call


_CHANGEABLE = (list, dict, deque)


def joining(f: Any, call: Callable[..., Any], s: Session) -> Callable[..., Any]:
    """A NumPy function that lists of a length which only the run knows may reach."""

    def of(*args: Any, **kwargs: Any) -> Any:
        if not s.row_lists:
            return call(*args, **kwargs)
        from stager.capture.row_lists import with_rows

        return with_rows(f, call, *args, **kwargs)

    return of


def _numpy(f: Any, s: Session) -> Any:
    """A ufunc or another public NumPy function: traced values inside lists are seen too."""

    def call(*args: Any, **kwargs: Any) -> Any:
        args = tuple([objects.mirrored(s, a) for a in args])
        args = tuple([converted([*a] if type(a) is deque else a, s) for a in args])
        if s.owners and args and type(args[0]) is list and not args[0]:
            from stager.capture.growing import reads

            reads(args[0])
        return join(*args, **kwargs)

    def plain(*args: Any, **kwargs: Any) -> Any:
        if any(type(a) in _SEQUENCES and holds_tracer(a) for a in args):
            from stager.numpy.creation import array
            from stager.numpy.registry import FUNCTIONS

            counterpart = FUNCTIONS.get(f)
            if counterpart is not None:
                return counterpart(*args, **kwargs)
            args = tuple([array(a) if type(a) in _SEQUENCES and holds_tracer(a) else a for a in args])
        return f(*args, **kwargs)

    join = joining(f, plain, s)
    return call


_SEQUENCES = (list, tuple)


_FRESH = frozenset({"copy", "astype"})  # what they make may be written into: traced from the start


class _OnArray:
    """A bound method of an untraced ndarray: with a traced operand it is the traced array's method."""

    __slots__ = ("array", "method")

    def __init__(self, method: Any, array: Any) -> None:
        self.method = method
        self.array = array

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if (
            self.method.__name__ in _FRESH
            or any(holds_tracer(a) for a in args)
            or any(holds_tracer(v) for v in kwargs.values())
        ):
            lifted = lift_array(self.array)
            return getattr(lifted, self.method.__name__)(*args, **kwargs)
        return self.method(*args, **kwargs)


LIFT: list[Callable[[Any], Any]] = []  # what makes a traced constant of an ndarray; `stager.array` puts it here


def lift_array(array: Any) -> Any:
    """A traced constant for an ndarray that came out of code stager did not see."""
    return LIFT[0](array)


@functools.lru_cache(maxsize=4096)
def property_of(cls: Any, name: str, part: str = "fget") -> FunctionType | None:
    """The getter or setter of a property that the user's class defines in Python, or None."""
    if cls in TRACERS:
        return None
    for base in cls.__mro__:
        if name in base.__dict__:
            found = base.__dict__[name]
            f = getattr(found, part) if type(found) is property else None
            return f if type(f) is FunctionType and is_user_file(f.__code__.co_filename) else None
    return None


_METHOD_WRAPPER = type("".__str__)
_DISPATCHED = type(np.concatenate)
