"""Fixtures and switches that every test runs under.

What holds in every test: the verifier runs between passes, warnings are errors (pyproject.toml), the disk cache is a
fresh folder of this session, and random inputs follow from the test's own name. Not here: sample inputs of ops
(samples.py) and whole programs (programs/).
"""

from __future__ import annotations

import difflib
import gc
import importlib.util
import os
import re
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest

# Set at import, before any test module imports stager: both are read at stager's first use.
# pytest-xdist's workers share the folder of the process that started them: what one has compiled the others find.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _cache_root = tempfile.TemporaryDirectory(prefix="stager-tests-")
    os.environ["STAGER_CACHE_DIR"] = _cache_root.name
os.environ["STAGER_VERIFY"] = "1"

hypothesis.settings.register_profile("default", deadline=None, max_examples=50, derandomize=True)
hypothesis.settings.register_profile(
    "fuzz",
    deadline=None,
    max_examples=2000,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.filter_too_much],
)
hypothesis.settings.load_profile("default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the stored texts instead of comparing")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "golden" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.golden)


def pytest_collection_finish() -> None:
    """Modules and collected tests outlive every test: the collector skips them, a tenth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def verify_between_passes() -> None:
    """Every pass of every compile in the suite is followed by the verifier."""
    if importlib.util.find_spec("stager.ir.passes") is not None:
        passes = importlib.import_module("stager.ir.passes")
        if hasattr(passes, "VERIFY"):
            passes.VERIFY = True


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator seeded by the test's name: the same numbers alone, in the suite and in any order."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`golden(text)` or `golden(text, "name")`: compares with golden/<test module>/<test>[.name].txt beside the test.

    `--update-golden` writes the file instead. A test that compares several texts names all but the first.
    """
    path = Path(request.node.path)
    stem = re.sub(r"[^\w.\-]+", "_", request.node.name).strip("_")
    folder = path.parent / "golden" / path.stem

    def check(text: str, name: str | None = None) -> None:
        file = folder / (f"{stem}.{name}.txt" if name else f"{stem}.txt")
        text = text if text.endswith("\n") else text + "\n"
        if request.config.getoption("--update-golden"):
            folder.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            return
        if not file.exists():
            pytest.fail(f"no stored text {file}; run `make golden` and read the diff", pytrace=False)
        stored = file.read_text(encoding="utf-8")
        if stored != text:
            diff = "".join(difflib.unified_diff(stored.splitlines(True), text.splitlines(True), "stored", "now"))
            pytest.fail(f"{file.name} differs from the stored text (`make golden` rewrites it):\n{diff}", pytrace=False)

    return check
