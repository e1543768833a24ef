"""Fast paths with slow twins under tests/reference.

| what | module | on a CPU | on a GPU |
|---|---|---|---|
| selective scan | `selective_scan` | `_scan_numba` | mamba-ssm, `_scan_triton` |
| causal convolution | `causal_conv` | `_conv_numba` | causal-conv1d |
| hidden attention: | `hidden_attention` | | |
| - matrices | | `_contraction` | `_reads_torch` |
| - rows, moments | | `_reads_numba` | `_reads_triton`, `_reads_torch` |
| - applied to values | | `_apply_numba` | `_reads_triton`, `_reads_torch` |

`mamba` puts scan and convolution into transformers' own mixer.

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
