"""What goes wrong with built libraries."""

from __future__ import annotations

from stager.errors import StagerError


class BuildError(StagerError, RuntimeError):
    """A library cannot be built or loaded."""
