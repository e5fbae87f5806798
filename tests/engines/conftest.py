"""vLLM on a machine without a GPU: its classes are used, its engine is not started."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

with suppress(ImportError):  # before others import the name: there is no device to pin memory for
    from vllm.utils import torch_utils

    torch_utils.PIN_MEMORY = False


@pytest.fixture(scope="session")
def cpu() -> None:
    """Lets vLLM make configurations: its package for CUDA finds no device here."""
    platforms: Any = pytest.importorskip("vllm.platforms", reason="make test-engines installs vLLM")
    from vllm.platforms.cpu import CpuPlatform

    platforms._current_platform = CpuPlatform()
