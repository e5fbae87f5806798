"""Compiled programs on disk, so that another process need not compile them again.

A file holds the arrays of one :class:`~grammars.program.Program` and says which sources it was made of:
its name is a hash of the source, the options, the limits and the code that compiles.  Only large
programs are kept, since small ones are compiled as fast as they are read.  Files appear atomically, a
checksum tells damaged ones, and the oldest go where all together are more than ``MOST_BYTES``.

The environment variable ``GRAMMA_PROGRAMS=off`` turns it off; ``GRAMMA_CACHE`` names the folder
(:mod:`grammars.cache_folder`).
"""

from __future__ import annotations

import json
import marshal
import os
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from grammars.cache_folder import appearing, cache_folder, is_trusted, warn_unwritable
from grammars.compiling.bags import BagSpec
from grammars.ir import GrammarIR, Layout
from grammars.limits import Limits
from grammars.program import Program

SWITCH: Final = "GRAMMA_PROGRAMS"
LEAST_STATES: Final = 2_000
"""Smaller programs are not kept."""
MOST_BYTES: Final = 256_000_000
"""Of all files together."""
_MAGIC: Final = b"gramma program 3"
_HASH: Final = 16
_ALIGNED: Final = 64
_SWEEP_EVERY: Final = 64
_LARGEST: Final = MOST_BYTES // 8
_FLAGS: Final = ("distinct_keys", "compare_items", "json")

_kept = 0


@dataclass(frozen=True)
class Kept:
    """What a file holds.

    Attributes:
        program: the compiled form.
        head: the intermediate form without its rules.
    """

    program: Program
    head: GrammarIR


def is_on() -> bool:
    """Whether programs are kept on disk."""
    return os.environ.get(SWITCH, "").lower() not in ("off", "0", "no", "false")


def key_of(kind: str, source: Any, limits: Limits) -> str | None:
    """The name under which the program of a source is kept; ``None`` if it is not to be.

    Args:
        kind: which front end reads the source.
        source: text, or plain containers of text, numbers and truth values: what else they hold
            cannot be told apart from outside, so nothing is kept of it.
        limits: bounds, which belong to the name.
    """
    if not is_on():
        return None
    try:
        content = marshal.dumps((kind, source, tuple(asdict(limits).items())), 2)
    except (ValueError, RecursionError):
        return None
    return blake2b(code() + content, digest_size=20).hexdigest()


@cache
def code() -> bytes:
    """Which code compiles: changes to any source of this package make another name."""
    root = Path(__file__).parent
    digest = blake2b(sys.version.encode() + sys.byteorder.encode())
    try:
        for path in sorted(root.rglob("*.py")):
            found = path.stat()
            digest.update(f"{path} {found.st_mtime_ns} {found.st_size}\n".encode())
    except OSError:  # not in a folder of files
        from grammars.version import version

        digest.update(version().encode())
    for library in ("lark", "idna", "regex"):  # what front ends read tables from
        module = sys.modules.get(library)
        digest.update(str(getattr(module, "__version__", "")).encode())
    return digest.digest()


def load(key: str) -> Kept | None:
    """The program of that name; ``None`` if there is none, or its file is damaged."""
    data = read_file(f"{key}.bin")
    try:
        return None if data is None else read(data)
    except (ValueError, KeyError, TypeError, IndexError):
        return None  # compiled, and written, again


def read_file(name: str) -> bytes | None:
    """A file of this folder, which is noted as used; ``None`` if there is none."""
    path = _path(name)
    if not is_trusted(path.parent):
        return None
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_BYTES:
            return None  # links may lead to devices, which have no end
        data = path.read_bytes()
    except OSError:
        return None
    with suppress(OSError):
        os.utime(path)
    return data


def write_file(name: str, parts: list[bytes]) -> bool:
    """Writes a file of this folder; whether it is there now.

    A folder that cannot be written is reported once.
    """
    path = _path(name)
    if not is_trusted(path.parent):
        return False
    try:
        with appearing(path) as stream:
            stream.writelines(parts)
    except OSError as error:
        warn_unwritable(path, error)
        return False
    global _kept
    if _kept % _SWEEP_EVERY == 0:
        _sweep(path.parent)
    _kept += 1
    return True


def keep(key: str, program: Program, ir: GrammarIR) -> bool:
    """Writes a program that is worth it; whether it is there now.

    A folder that cannot be written is reported once.
    """
    if (
        program.states < LEAST_STATES
        or program.is_empty
        or ir.sections
        or ir.parts
        or _size(program) > _LARGEST
        or not can_be_written(program)
    ):
        return False
    return write_file(f"{key}.bin", written(program, ir))


def can_be_written(program: Program) -> bool:
    """Whether the format has a place for all of a program."""
    return not any(spec.conditions for spec in program.bags)


def _size(program: Program) -> int:
    values = [getattr(program, field.name) for field in fields(Program)]
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))


def _path(name: str) -> Path:
    return cache_folder("programs", name)


def _sweep(folder: Path) -> None:
    """Removes the files that were not used for longest where there are too many."""
    found: list[tuple[float, int, str]] = []
    with suppress(OSError):
        for entry in os.scandir(folder):
            with suppress(OSError):
                known = entry.stat()
                found.append((known.st_mtime, known.st_size, entry.path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= MOST_BYTES:
            return
        with suppress(OSError):
            os.unlink(path)
        total -= size


def written(program: Program, ir: GrammarIR) -> list[bytes]:
    """The parts of a file, see :func:`can_be_written`; of the intermediate form without its rules."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    plain: dict[str, Any] = {}
    for field in fields(Program):
        value = getattr(program, field.name)
        if isinstance(value, np.ndarray):
            arrays[field.name] = value
        elif field.name == "bags":
            plain["bags"] = [asdict(spec) for spec in value]
        else:
            plain[field.name] = value
    flags = {flag: getattr(ir, flag) for flag in _FLAGS}
    head = {"start": ir.start, "notes": ir.notes, "tokens": ir.tokens, "lexer": ir.lexer, **flags}
    head["layout"] = None if ir.layout is None else asdict(ir.layout)
    return file_of({"plain": plain, "head": head}, arrays)


def file_of(entries: dict[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> list[bytes]:
    """A file's parts: what JSON can say, arrays, and a checksum."""
    listed: list[tuple[str, str, tuple[int, ...]]] = []
    parts: list[bytes] = []
    for name, value in arrays.items():
        listed.append((name, value.dtype.str, value.shape))
        raw = value.tobytes()
        parts.append(raw + bytes(-len(raw) % _ALIGNED))
    text = json.dumps({"arrays": listed, **entries}).encode()
    text += b" " * (-(len(text) + len(_MAGIC) + 8 + _HASH) % _ALIGNED)
    digest = blake2b(text, digest_size=_HASH)
    for part in parts:
        digest.update(part)
    return [_MAGIC, len(text).to_bytes(8, "little"), digest.digest(), text, *parts]


def parts_of(data: bytes) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """The inverse of :func:`file_of`; arrays cannot be written to.

    Raises:
        ValueError: if the file is damaged.
    """
    at = len(_MAGIC) + 8 + _HASH
    view = memoryview(data)
    length = int.from_bytes(data[len(_MAGIC) : len(_MAGIC) + 8], "little")
    if not data.startswith(_MAGIC) or at + length > len(data):
        raise ValueError("no compiled program")
    if blake2b(view[at:], digest_size=_HASH).digest() != data[at - _HASH : at]:
        raise ValueError("its content does not match its checksum")
    entries: dict[str, Any] = json.loads(data[at : at + length])
    at += length
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, dtype, shape in entries["arrays"]:
        array = np.frombuffer(data, dtype, int(np.prod(shape)), at).reshape(shape)
        arrays[name] = array
        at += array.nbytes + -array.nbytes % _ALIGNED
    return entries, arrays


def read(data: bytes) -> Kept:
    """The inverse of :func:`written`.

    Raises:
        ValueError: if the file is damaged.
    """
    entries, arrays = parts_of(data)
    values: dict[str, Any] = {**entries["plain"], **arrays}
    values["marks"] = tuple(values["marks"])
    values["rule_names"] = tuple(values["rule_names"])
    values["bags"] = tuple(
        BagSpec(
            tuple(spec["mins"]),
            tuple(spec["maxs"]),
            tuple(spec["groups"]),
            spec["low"],
            spec["high"],
            spec["ordered"],
            loose=spec["loose"],
        )
        for spec in values["bags"]
    )
    head = entries["head"]
    flags = {flag: head[flag] for flag in _FLAGS}
    bare = GrammarIR(
        (),
        head["start"],
        tuple(head["notes"]),
        tokens=tuple(head["tokens"]),
        lexer=head["lexer"],
        layout=None if head["layout"] is None else Layout(**head["layout"]),
        **flags,
    )
    return Kept(Program(**values), bare)
