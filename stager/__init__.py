"""stager: write NumPy; get vmap, grad, jvp and functionalize in any nesting, as native code."""

import os as _os

# A checkout that lost its relative links (Windows) still finds ir/, codegen/ and runtime/ beside this folder.
if not _os.path.isdir(_os.path.join(__path__[0], "ir")):
    __path__.append(_os.path.dirname(__path__[0]))

__version__ = "0.1.0"
