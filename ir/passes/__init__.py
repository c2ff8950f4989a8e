"""The passes: each one function Graph -> Graph or a table of rules, and the list of them in order (`pipeline.py`)."""

import os

# Whether the verifier runs after every pass. Tests set it; it costs about as much as the passes themselves.
VERIFY = os.environ.get("STAGER_VERIFY", "0") not in ("", "0")
