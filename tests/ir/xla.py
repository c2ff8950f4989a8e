"""XLA in a process of its own, for the tests of StableHLO: JAX's threads and its hook at fork stay out of the others.

The child reads (module, arrays) from its standard input, pickled, and answers with the results, or the error as text.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any


class Xla:
    """Runs StableHLO modules. `close` ends it."""

    def __init__(self) -> None:
        command = [sys.executable, "-W", "ignore", __file__]
        pipe = subprocess.PIPE
        self._child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)

    def __call__(self, module: str, arrays: list[Any]) -> list[Any]:
        """The results of a module's `main`. RuntimeError with what XLA said."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        pickle.dump((module, arrays), self._child.stdin)
        self._child.stdin.flush()
        answer = pickle.load(self._child.stdout)
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return list(answer)

    def close(self) -> None:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        self._child.wait()
        self._child.stdout.close()


def main() -> None:
    import jax
    import numpy as np
    from jaxlib import _jax, xla_client

    jax.config.update("jax_enable_x64", True)
    device = jax.devices("cpu")[0]
    devices = _jax.DeviceList((device,))
    while True:
        try:
            module, arrays = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        answer: Any
        try:
            program = device.client.compile_and_load(module.encode(), devices, xla_client.CompileOptions())
            results = program.execute([jax.device_put(np.array(a), device) for a in arrays])
            answer = [np.asarray(r) for r in results]
        except Exception as e:  # whatever it is, the test shall show it
            answer = f"{type(e).__name__}: {e}"
        pickle.dump(answer, sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
