"""The emitted support modules (entry, thread pool, buffers) of this process: made once per machine, kept on disk."""

from __future__ import annotations

import functools
from collections.abc import Callable

from stager.runtime.engine import engine


def kept(name: str, build: Callable[[], bytes]) -> bytes:
    """An object from the disk cache, or built and put there."""
    from stager.runtime.cache import disk_cache

    cache = disk_cache()
    if cache is None:
        return build()
    found = cache.get_object(name)
    if found is None:
        found = build()
        cache.put_object(name, found)
    return found


def _pool_object() -> bytes:
    from stager.codegen.objects import object_of
    from stager.codegen.pool import emit_pool
    from stager.codegen.target import Target

    return object_of(emit_pool(Target.host()), Target.host())


def _buffers_object() -> bytes:
    from stager.codegen.buffers import emit_buffers
    from stager.codegen.objects import object_of
    from stager.codegen.target import Target

    return object_of(emit_buffers(Target.host()), Target.host())


def _blas_threads_object() -> bytes:
    from stager.codegen.blas import emit_blas_threads
    from stager.codegen.objects import object_of
    from stager.codegen.target import Target

    return object_of(emit_blas_threads(Target.host()), Target.host())


def _products_object() -> bytes:
    from stager.codegen.objects import object_of
    from stager.codegen.products import emit_products
    from stager.codegen.target import Target

    return object_of(emit_products(Target.host()), Target.host())


def _entry_object() -> bytes:
    from stager.codegen.entry import entry_object
    from stager.runtime.layout import python_layout

    return entry_object(python_layout())


POOL_SYMBOLS = (
    "stager_parallel_for", "stager_parallel_brief",
    "stager_pool_threads", "stager_pool_set_threads", "stager_pool_stop",
)  # fmt: skip
BUFFER_SYMBOLS = (
    "stager_buffer_acquire", "stager_buffer_release", "stager_arena_acquire", "stager_arena_release",
    "stager_tape_grow", "stager_tape_free", "stager_tape_room",
    "stager_buffer_set_limit", "stager_buffer_kept", "stager_buffer_trim",
)  # fmt: skip
BLAS_SYMBOLS = ("stager_blas_enter", "stager_blas_leave")
BLAS_EXTERNALS = ("stager_blas_get_threads", "stager_blas_set_threads", "stager_pool_threads")
PRODUCT_SYMBOLS = ("stager_blas_product_f64", "stager_blas_product_f32")
PRODUCT_EXTERNALS = (
    "stager_blas_dgemm", "stager_blas_sgemm", "stager_blas_enter", "stager_blas_leave", "stager_parallel_for",
    "stager_pool_threads",
)  # fmt: skip


@functools.cache
def provide_support() -> None:
    """Tell the engine what objects may need; each is loaded at its first use."""
    from stager.runtime import blas, printing
    from stager.runtime.function import external_address
    from stager.runtime.memory import start_buffers
    from stager.runtime.threads import start_pool

    e = engine()
    e.provide(POOL_SYMBOLS, lambda: kept("pool", _pool_object), start_pool)
    e.provide(BUFFER_SYMBOLS, lambda: kept("buffers", _buffers_object), start_buffers)
    e.provide(BLAS_SYMBOLS, lambda: kept("blas", _blas_threads_object), externals=BLAS_EXTERNALS)
    e.provide(PRODUCT_SYMBOLS, lambda: kept("products", _products_object), externals=PRODUCT_EXTERNALS)
    e.provide_by(external_address)
    e.provide_by(blas.external_address)
    e.provide_by(printing.external_address)


_forever: list[object] = []


@functools.cache
def install_entry() -> None:
    """Make the native type of compiled functions."""
    from stager.ir.entry_table import ENTRY_EXPORTS, ENTRY_EXTERNALS
    from stager.runtime.function import compiled_function_type, install

    provide_support()
    loaded = engine().load(kept("entry", _entry_object), ENTRY_EXTERNALS)
    _forever.append(loaded)
    install({name: loaded.address(name) for name in ENTRY_EXPORTS})
    from stager.explain import attach

    attach(compiled_function_type())
