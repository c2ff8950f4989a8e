"""The op set: each op declared once, with every rule that its family cannot derive. Importing it fills `OPS`."""

from stager.ops import (  # noqa: F401
    collect,
    contract,
    control,
    effects,
    elementwise,
    indexed,
    reductions,
    scans,
    sort,
    structural,
    views,
)
