"""vLLM on a machine without a GPU: its classes are used, its engine is not started."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="session")
def cpu() -> None:
    """Lets vLLM make configurations: its package for CUDA finds no device here."""
    platforms: Any = pytest.importorskip("vllm.platforms", reason="make test-engines installs vLLM")
    from vllm.platforms.cpu import CpuPlatform

    platforms._current_platform = CpuPlatform()
