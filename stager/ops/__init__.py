"""The op set: each op declared once, with every rule that its family cannot derive. Importing it fills `OPS`."""

from stager.ops import contract, control, effects, elementwise, indexed, reductions, scans, sort, structural, views  # noqa: F401
