"""The op set: each op declared once, with every rule that its family cannot derive. Importing this package fills `OPS`."""

from stager.ops import elementwise, structural, views  # noqa: F401  (declares the ops)
