"""A server around a toy model, for clients elsewhere: prints its address, ends with its input."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from serving import serving

from samplers.serving.options import ServingOptions

if __name__ == "__main__":
    with serving(ServingOptions(default_tokens=400, max_seconds=60)) as served:
        print(served.url, flush=True)
        sys.stdin.read()
