"""Importing this module declares every op of stager's, those of modules that load late included: what reads graphs as
text needs them all."""

import stager.collectives
import stager.ops
import stager.random
import stager.transforms.checkpoint
import stager.transforms.custom  # noqa: F401
