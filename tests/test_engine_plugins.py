"""How serving engines find this package, and what they are told where they are not installed."""

from __future__ import annotations

import importlib
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pytest

from constrain.engines.errors import MissingEngine, missing_engine

ROOT: Final = Path(__file__).parent.parent
PLUGINS: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))[
    "project"
]["entry-points"]
MODULES: Final = {
    "constrain.engines.vllm_backend": "vllm",
    "constrain.engines.vllm_processor": "vllm",
    "constrain.engines.sglang_backend": "sglang",
}


@pytest.mark.parametrize("group", ["vllm.general_plugins", "sglang.srt.plugins"])
def test_a_plugin_is_named_and_there(group: str) -> None:
    module, _, name = PLUGINS[group]["gramma"].partition(":")
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    assert f"\ndef {name}() -> None:" in Path(spec.origin).read_text("utf-8")


def test_no_processor_is_loaded_that_nobody_asked_for() -> None:
    """VLLM would have it in every engine, ask it for each request, and not keep its tokens up to date."""
    assert set(PLUGINS) == {"vllm.general_plugins", "sglang.srt.plugins"}


@pytest.mark.parametrize("module", MODULES)
def test_an_engine_that_is_missing_is_named(module: str) -> None:
    engine = MODULES[module]
    if find_spec(engine) is not None:
        pytest.skip(f"{engine} is installed")
    with pytest.raises(MissingEngine, match=f"for {engine} to load, and {engine} is not installed"):
        importlib.import_module(module)


def test_the_plugin_can_be_imported_without_vllm() -> None:
    from constrain.engines import vllm_plugin

    if find_spec("vllm") is not None:
        pytest.skip("vllm is installed")
    for call in (vllm_plugin.load, vllm_plugin.register):
        with pytest.raises(MissingEngine, match="vllm is not installed here"):
            call()


def test_other_packages_that_are_missing_are_told_as_they_are() -> None:
    error = ModuleNotFoundError("No module named 'msgspec'", name="msgspec")
    assert missing_engine("vllm", error) is error
    inside = ModuleNotFoundError("No module named 'vllm.v2'", name="vllm.v2")
    assert isinstance(missing_engine("vllm", inside), MissingEngine)
