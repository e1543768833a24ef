"""Fast paths with slow twins under tests/reference: selective scan and hidden attention.

numba files compiled code under the source file of one function and does not notice when a helper
in another file changes. So the compiled code of all kernels lies in a folder named after all of
their sources.
"""

import hashlib
from pathlib import Path

from numba import config

_HERE = Path(__file__).parent
_SOURCES = b"".join(source.read_bytes() for source in sorted(_HERE.glob("*.py")))
_BASE = Path(config.CACHE_DIR) if config.CACHE_DIR else _HERE / "__pycache__"
config.CACHE_DIR = str(_BASE / f"kernels-{hashlib.sha256(_SOURCES).hexdigest()[:16]}")
