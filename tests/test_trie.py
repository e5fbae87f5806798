"""The flat trie against one made of dictionaries, and its file in the cache."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from constrain.cache import load_arrays, save_arrays
from constrain.vocabulary.trie import MAX_TOKEN_BYTES, Trie, hash_texts
from grammars import cache_folder

Texts = Sequence[bytes | None]

DTYPES = {
    "byte": np.uint8,
    "depth": np.uint16,
    "skip": np.int32,
    "token_start": np.int32,
    "tokens": np.int32,
    "suffix_class": np.int32,
}
SOME: list[bytes | None] = [b"a", None, b"ab", b"", b"b", b"ab", b"xab", b"\xff\x00"]


# --- a naive trie --------------------------------------------------------------------------------


@dataclass
class Node:
    text: bytes = b""
    tokens: list[int] = field(default_factory=list)
    below: dict[int, Node] = field(default_factory=dict)

    def preorder(self) -> Iterator[Node]:
        yield self
        for byte in sorted(self.below):
            yield from self.below[byte].preorder()

    def suffixes(self) -> frozenset[bytes]:
        """What leads from here to a node where a token ends."""
        cut = len(self.text)
        return frozenset(node.text[cut:] for node in self.preorder() if node.tokens)


def naive(texts: Texts) -> Node:
    root = Node()
    for i, text in enumerate(texts):
        if not text:
            continue
        node = root
        for at, byte in enumerate(text):
            node = node.below.setdefault(byte, Node(text[: at + 1]))
        node.tokens.append(i)
    return root


def assert_is_the_trie_of(trie: Trie, texts: Texts) -> None:
    nodes = list(naive(texts).preorder())
    assert trie.node_count == len(nodes)
    assert trie.byte.tolist() == [n.text[-1] if n.text else 0 for n in nodes]
    assert trie.depth.tolist() == [len(n.text) for n in nodes]
    ends = [i + len(list(n.preorder())) for i, n in enumerate(nodes)]
    assert trie.skip.tolist() == ends
    bounds = trie.token_start.tolist()
    assert len(bounds) == len(nodes) + 1
    tokens = trie.tokens.tolist()
    for i, node in enumerate(nodes):
        assert tokens[bounds[i] : bounds[i + 1]] == node.tokens
        whole = [t for n in node.preorder() for t in n.tokens]
        assert tokens[bounds[i] : bounds[ends[i]]] == whole
    assert len(tokens) == bounds[-1]
    assert trie.max_depth == max(len(n.text) for n in nodes)
    assert_suffix_classes(trie, nodes)


def assert_suffix_classes(trie: Trie, nodes: list[Node]) -> None:
    """Equal numbers exactly for equal sets; 0 is the leaf; no number is left out."""
    classes = trie.suffix_class.tolist()
    pairs = set(zip(classes, (n.suffixes() for n in nodes), strict=True))
    numbers = {number for number, _ in pairs}
    assert len(pairs) == len(numbers) == len({suffixes for _, suffixes in pairs})
    for number, suffixes in pairs:
        assert (number == 0) == (suffixes == {b""})
    assert trie.suffix_class.max() + 1 == max(numbers) + 1
    if len(nodes) > 1:
        assert numbers == set(range(trie.suffix_class.max() + 1))


def assert_same(one: Trie, other: Trie) -> None:
    for name in DTYPES:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


# --- build ---------------------------------------------------------------------------------------

_NARROW = st.lists(st.sampled_from(b"ab"), max_size=5).map(bytes)
_WIDE = st.binary(max_size=4)
TEXTS = st.lists(st.one_of(_NARROW, _NARROW, _WIDE, st.none()), max_size=25)


@given(TEXTS)
@settings(max_examples=300)
@example([])
@example([None, b""])
@example([b"a"])
@example([b"b", b"a", b"b", b"a"])
@example([b"\x00", b"\x00\x00", b"\xff", b"\xff\x00"])
@example([b"aaaaa", b"aaa"])
@example([b"ax", b"bx", b"bxy", b"cxy"])
@example([b"ab", b"ac", b"bb", b"bc", b"b"])
def test_build(texts: list[bytes | None]) -> None:
    assert_is_the_trie_of(Trie.build(texts), texts)


def test_every_byte_below_the_root() -> None:
    texts = [bytes([255 - i]) for i in range(256)]
    assert_is_the_trie_of(Trie.build(texts), texts)


def test_wide_nodes_with_many_suffix_classes() -> None:
    texts = [bytes([i, j]) for i in range(64) for j in range(0, 256, 1 + i % 5)]
    assert_is_the_trie_of(Trie.build(texts), texts)


def test_arrays_are_as_documented() -> None:
    trie = Trie.build(SOME)
    assert {f.name for f in fields(trie)} == set(DTYPES)
    for name, dtype in DTYPES.items():
        array = getattr(trie, name)
        assert array.dtype == dtype
        assert array.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_longest_token() -> None:
    text = b"ab" * (MAX_TOKEN_BYTES // 2) + b"c"
    trie = Trie.build([text])
    assert trie.max_depth == len(text) == MAX_TOKEN_BYTES
    assert trie.node_count == MAX_TOKEN_BYTES + 1


def test_token_that_is_too_long() -> None:
    with pytest.raises(ValueError, match=r"token 1 has 65,536 bytes; at most 65,535"):
        Trie.build([b"a", b"x" * 65_536])


def test_no_pickle() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Trie.build(SOME))


# --- the hash ------------------------------------------------------------------------------------


@given(TEXTS, TEXTS)
@example([None], [b""])
@example([b"ab", b"c"], [b"a", b"bc"])
@example([], [None])
def test_hash_tells_texts_apart(one: list[bytes | None], other: list[bytes | None]) -> None:
    assert (hash_texts(one) == hash_texts(other)) == (one == other)


# --- the cache -----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRAMMA_CACHE", str(tmp_path))
    monkeypatch.setattr(cache_folder, "_warned", set())
    return tmp_path / "trie"


def no_build(texts: Texts) -> Trie:
    raise AssertionError("the trie was built though it is in the cache")


@pytest.mark.parametrize("texts", [SOME, [], [None, b""], [b"a"]])
def test_second_time_from_disk(
    folder: Path, monkeypatch: pytest.MonkeyPatch, texts: list[bytes | None]
) -> None:
    first = Trie.cached(texts)
    assert [f.name for f in folder.iterdir()] == [f"{hash_texts(texts)}.npz"]
    monkeypatch.setattr("constrain.vocabulary.trie._build", no_build)
    second = Trie.cached(texts)
    assert_same(first, second)
    assert_is_the_trie_of(second, texts)
    assert all(not getattr(second, name).flags.writeable for name in DTYPES)


def test_other_texts_have_another_file(folder: Path) -> None:
    Trie.cached([b"a", None])
    Trie.cached([b"a", b""])
    assert len(list(folder.iterdir())) == 2


def _truncate(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flip(data: bytes) -> bytes:
    at = data.index(b"\x93NUMPY") + 130  # inside the first array, which the checksum covers
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [_truncate, _flip, lambda data: b"", lambda data: b"not an archive", lambda data: data[100:]],
    ids=["half", "one byte", "empty", "other", "beginning lost"],
)
def test_damaged_file_is_made_again(folder: Path, damage: object) -> None:
    assert callable(damage)
    good = Trie.cached(SOME)
    (file,) = folder.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    with pytest.warns(RuntimeWarning, match="cannot be read"):
        again = Trie.cached(SOME)
    assert_same(good, again)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(good, Trie.cached(SOME))  # the good file is back


def _without_skip(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {k: v for k, v in arrays.items() if k != "skip"}


@pytest.mark.parametrize(
    "change",
    [
        _without_skip,
        lambda a: a | {"more": a["skip"]},
        lambda a: a | {"skip": a["skip"][:-1]},
        lambda a: a | {"skip": a["skip"].astype(np.int64)},
        lambda a: a | {"tokens": a["tokens"][:-1]},
        lambda a: a | {"byte": a["byte"].reshape(1, -1)},
        lambda a: {k: v[:0] for k, v in a.items()},
    ],
    ids=["missing", "more", "short", "dtype", "tokens", "shape", "nothing"],
)
def test_arrays_of_another_form_are_made_again(folder: Path, change: object) -> None:
    assert callable(change)
    good = Trie.cached(SOME)
    (file,) = folder.iterdir()
    stored = load_arrays(file)
    assert stored is not None
    assert save_arrays(file, change(stored))
    assert_same(good, Trie.cached(SOME))
    again = load_arrays(file)
    assert again is not None
    assert again.keys() == DTYPES.keys()


def test_pickled_objects_are_not_loaded(folder: Path) -> None:
    file = folder / f"{hash_texts(SOME)}.npz"
    folder.mkdir(parents=True)
    np.savez(file, byte=np.array([Exception("loaded")], object))
    with pytest.warns(RuntimeWarning, match="cannot be read"):
        assert_is_the_trie_of(Trie.cached(SOME), SOME)


@pytest.fixture
def unwritable(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache below a file: no folder can be made there, not even by root."""
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("GRAMMA_CACHE", str(blocked))
    return blocked


def test_unwritable_folder_costs_only_time(unwritable: Path) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        tries = [Trie.cached(SOME), Trie.cached([b"other"]), Trie.cached(SOME)]
    about_writing = [w for w in seen if "cannot be written" in str(w.message)]
    assert len(about_writing) == 1
    assert issubclass(about_writing[0].category, RuntimeWarning)
    assert "GRAMMA_CACHE" in str(about_writing[0].message)
    assert_is_the_trie_of(tries[0], SOME)
    assert_is_the_trie_of(tries[1], [b"other"])
    assert_same(tries[0], tries[2])
    assert unwritable.read_text() == "in the way"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)
def test_read_only_folder(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o500)
    try:
        with pytest.warns(RuntimeWarning, match="cannot be written"):
            assert_is_the_trie_of(Trie.cached(SOME), SOME)
    finally:
        folder.chmod(0o700)


def test_no_temporary_file_is_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(RuntimeWarning, match="No space left"):
        assert_is_the_trie_of(Trie.cached(SOME), SOME)
    assert list(folder.iterdir()) == []
