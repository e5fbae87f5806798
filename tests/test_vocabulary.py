"""Bytes of tokens: every family of tokenizers, by tables made here and by real ones."""

from __future__ import annotations

import base64
import copy
import json
import pickle
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from toys import EOS, TOKENS, model, vocabulary
from transformers import PreTrainedTokenizerFast

from constrain import TokenAutomaton, Vocabulary, allocate_bitmask
from constrain.models import ModelUnavailable, list_tokenizers, load_tokenizer
from constrain.vocabulary.alphabets import byte_alphabet
from grammars.errors import GrammarError
from grammars.grammar import Grammar

ALPHABET = {byte: char for char, byte in byte_alphabet().items()}


def spelled(data: bytes) -> str:
    """Bytes in the alphabet of byte-level tokenizers."""
    return "".join(ALPHABET[byte] for byte in data)


def all_bytes(made: Vocabulary) -> list[bytes | None]:
    return [made.token_bytes(i) for i in range(made.size)]


# --- small tokenizers ----------------------------------------------------------------------------


def byte_level(words: Iterable[bytes] = (), special: Iterable[str] = ("<eos>",)) -> Tokenizer:
    """Byte-level BPE: all bytes, then words (their merges are left out), then special tokens."""
    tokens = [bytes([b]) for b in range(256)] + list(words)
    vocab = {spelled(token): i for i, token in enumerate(tokens)}
    made = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(special))
    return made


PIECES = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
PIECES += ["▁", "▁a", "a", "b", "é", "日本", "▁▁▁", "<0x", "a▁b", "\n"]


def byte_fallback(*, strip: bool = False) -> Tokenizer:
    """BPE as converted from SentencePiece, with the decoder that Llama 2 or Gemma has."""
    vocab = {piece: i for i, piece in enumerate(PIECES)}
    made = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>", byte_fallback=True))
    made.normalizer = normalizers.Replace(" ", "▁")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    made.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if strip else steps)
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    return made


def unigram(*, fallback: bool = False) -> Tokenizer:
    """SentencePiece's unigram model with Metaspace, as T5 has it."""
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("▁", -1.0), ("▁hi", -2.0), ("h", -3.0), ("i", -3.0)]
    pieces += [("<0x0A>", -9.0), ("é", -4.0)]
    made = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=fallback))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    steps = [decoders.ByteFallback()] if fallback else []
    made.decoder = decoders.Sequence([*steps, decoders.Metaspace()])
    made.add_special_tokens(["</s>"])
    return made


def fast(tokenizer: Tokenizer, **arguments: Any) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **arguments)


# --- byte-level BPE ------------------------------------------------------------------------------


def test_alphabet_is_that_of_the_library() -> None:
    assert set(byte_alphabet()) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(byte_alphabet().values()) == list(range(256))


def test_byte_level() -> None:
    words = [b" hello", "é".encode(), b"\xa9\xc3", b"\n\n\t", b"\x00\xff", "日".encode()[:2]]
    made = Vocabulary.from_huggingface(fast(byte_level(words), eos_token="<eos>"))
    assert all_bytes(made) == [*(bytes([b]) for b in range(256)), *words, None]
    assert made.eos_token_ids == (262,)
    assert made.size == 263


def test_a_tokenizer_of_the_tokenizers_library() -> None:
    made = Vocabulary.from_huggingface(byte_level([b"ab"]), eos_token_ids=257)
    assert made == Vocabulary.from_huggingface(fast(byte_level([b"ab"]), eos_token="<eos>"))
    with pytest.raises(GrammarError, match="eos_token_ids"):
        Vocabulary.from_huggingface(byte_level())


@given(st.text(max_size=20))
@settings(deadline=None)
def test_byte_level_decodes_what_it_encodes(text: str) -> None:
    tokenizer, made = _byte_level_pair()
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert made.decode(ids) == text.encode()


@cache
def _byte_level_pair() -> tuple[Tokenizer, Vocabulary]:
    tokenizer = byte_level([b" a", "é".encode()])
    return tokenizer, Vocabulary.from_huggingface(tokenizer, eos_token_ids=258)


def test_added_tokens_are_text() -> None:
    """Outside the alphabet of bytes an added token is its own text, blanks and accents included."""
    tokenizer = byte_level()
    added = ["two words", "日本", " Ġé", "<tool>", "tab\t"]
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in added])
    made = Vocabulary.from_huggingface(fast(tokenizer, eos_token="<eos>"))
    assert [made.token_bytes(i) for i in range(257, 262)] == [t.encode() for t in added]
    for i, text in enumerate(added):
        assert tokenizer.decode([257 + i]) == text


def test_special_tokens_have_no_bytes() -> None:
    tokenizer = byte_level(special=("<eos>", "<pad>", "<|im_start|>"))
    tokenizer.add_tokens(["<plain>"])
    made = Vocabulary.from_huggingface(fast(tokenizer, eos_token="<eos>", pad_token="<pad>"))
    assert [made.token_bytes(i) for i in range(256, 260)] == [None, None, None, b"<plain>"]


def test_a_token_that_only_transformers_calls_special() -> None:
    tokenizer = byte_level([b"<pad>"])
    made = Vocabulary.from_huggingface(fast(tokenizer, eos_token="<eos>", pad_token="<pad>"))
    assert made.token_bytes(256) is None


def test_gaps() -> None:
    vocab = {"a": 0, "b": 5, spelled(b" "): 7}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    made = Vocabulary.from_huggingface(tokenizer, eos_token_ids=[3])
    assert all_bytes(made) == [b"a", None, None, None, None, b"b", None, b" "]


# --- SentencePiece -------------------------------------------------------------------------------


@pytest.mark.parametrize("strip", [False, True])
def test_byte_fallback(strip: bool) -> None:
    """Strip takes the blank off the beginning of a text only, so tokens keep theirs."""
    made = Vocabulary.from_huggingface(fast(byte_fallback(strip=strip), eos_token="</s>"))
    plain = [b" ", b" a", b"a", b"b", "é".encode(), "日本".encode(), b"   ", b"<0x", b"a b", b"\n"]
    assert all_bytes(made) == [None, None, None, *(bytes([b]) for b in range(256)), *plain]
    assert made.eos_token_ids == (2,)


@given(st.text(st.characters(exclude_characters="▁", codec="utf-8"), max_size=20))
@settings(deadline=None)
def test_byte_fallback_decodes_what_it_encodes(text: str) -> None:
    tokenizer, made = _byte_fallback_pair()
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    if not {"<s>", "</s>", "<unk>"} & {tokenizer.id_to_token(i) for i in ids}:
        assert made.decode(ids) == text.encode()


@cache
def _byte_fallback_pair() -> tuple[Tokenizer, Vocabulary]:
    tokenizer = byte_fallback()
    return tokenizer, Vocabulary.from_huggingface(fast(tokenizer, eos_token="</s>"))


def test_lower_case_and_partial_spellings_of_bytes() -> None:
    vocab = {"</s>": 0, "<0xe9>": 1, "<0xE9>": 2, "<0xE>": 3, "<0xE9>a": 4, "<0xGG>": 5}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    made = Vocabulary.from_huggingface(tokenizer, eos_token_ids=0)
    assert made.token_bytes(1) == made.token_bytes(2) == b"\xe9"
    assert [made.token_bytes(i) for i in (3, 4, 5)] == [b"<0xE>", b"<0xE9>a", b"<0xGG>"]


def test_metaspace() -> None:
    made = Vocabulary.from_huggingface(fast(unigram(), eos_token="</s>"))
    assert all_bytes(made) == [None, None, b" ", b" hi", b"h", b"i", b"<0x0A>", "é".encode()]


def test_metaspace_with_byte_fallback() -> None:
    made = Vocabulary.from_huggingface(fast(unigram(fallback=True), eos_token="</s>"))
    assert made.token_bytes(6) == b"\n"


class Piece:
    """A SentencePiece model, as far as it is asked."""

    pieces = ("<unk>", "<s>", "</s>", "▁a", "<0xE9>", "é", "unused", "▁")

    def get_piece_size(self) -> int:
        return len(self.pieces)

    def id_to_piece(self, i: int) -> str:
        return self.pieces[i]

    def is_control(self, i: int) -> bool:
        return i in (1, 2)

    def is_unknown(self, i: int) -> bool:
        return i == 0

    def is_unused(self, i: int) -> bool:
        return i == 6


def test_slow_tokenizer_with_its_model() -> None:
    slow = SimpleNamespace(
        sp_model=Piece(),
        all_special_ids=[2],
        eos_token_id=2,
        added_tokens_decoder={9: AddedToken("<tool> é"), 10: AddedToken("<sep>", special=True)},
    )
    made = Vocabulary.from_huggingface(slow)
    words = [b" a", b"\xe9", "é".encode(), None, b" ", None, "<tool> é".encode(), None]
    assert all_bytes(made) == [None, None, None, *words]


# --- tokenizers of other kinds -------------------------------------------------------------------


def test_decoders_that_give_no_bytes() -> None:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    with pytest.raises(GrammarError, match=r"WordPiece.*from_tokens"):
        Vocabulary.from_huggingface(tokenizer, eos_token_ids=0)


def test_no_decoder() -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    with pytest.raises(GrammarError, match="from_tokens"):
        Vocabulary.from_huggingface(tokenizer, eos_token_ids=0)


def test_decoder_with_a_regular_expression() -> None:
    tokenizer = Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    tokenizer.decoder = decoders.Replace(Regex("a+"), " ")
    with pytest.raises(GrammarError, match="regular expression"):
        Vocabulary.from_huggingface(tokenizer, eos_token_ids=0)


def test_not_a_tokenizer() -> None:
    with pytest.raises(GrammarError, match=r"SimpleNamespace.*from_tokens"):
        Vocabulary.from_huggingface(SimpleNamespace(eos_token_id=0))


# --- tiktoken ------------------------------------------------------------------------------------


def tiktoken_encoding(**special: int) -> Any:
    tiktoken = pytest.importorskip("tiktoken")
    ranks = {bytes([b]): b for b in range(256)} | {b"ab": 256, "é".encode(): 257, b"\xff\xfe": 258}
    return tiktoken.Encoding(
        name="small",
        pat_str=r"\S+|\s+",
        mergeable_ranks=ranks,
        special_tokens={f"<|{name}|>": i for name, i in special.items()},
    )


def test_tiktoken() -> None:
    encoding = tiktoken_encoding(endoftext=259, fim=265)
    made = Vocabulary.from_tiktoken(encoding)
    words = [b"ab", "é".encode(), b"\xff\xfe"]
    assert all_bytes(made) == [*(bytes([b]) for b in range(256)), *words, *[None] * 7]
    assert made.eos_token_ids == (259,)
    for text in ("abé ab\n", "日本", "", "🙂"):
        assert made.decode(encoding.encode_ordinary(text)) == text.encode()


def test_tiktoken_with_other_ends() -> None:
    made = Vocabulary.from_tiktoken(tiktoken_encoding(endoftext=259, end=260), [260, 259], size=300)
    assert made.eos_token_ids == (259, 260)
    assert made.size == 300


def test_tiktoken_without_an_end() -> None:
    """Ends are needed, and the error says how to give them."""
    encoding = tiktoken_encoding(start=259)
    assert Vocabulary.from_tiktoken(encoding, [259]).eos_token_ids == (259,)
    with pytest.raises(GrammarError, match="eos_token_ids"):
        Vocabulary.from_tiktoken(encoding)


# --- tekken --------------------------------------------------------------------------------------

TEKKEN_WORDS = [*(bytes([b]) for b in range(256)), b" the", "é".encode(), b"left out"]
TEKKEN: dict[str, Any] = {
    "config": {"default_vocab_size": 268, "default_num_special_tokens": 10, "pattern": r"\S+"},
    "vocab": [
        {"rank": i, "token_bytes": base64.b64encode(word).decode(), "token_str": None}
        for i, word in enumerate(TEKKEN_WORDS)
    ],
}


@pytest.mark.parametrize("as_file", [False, True])
def test_tekken(tmp_path: Path, as_file: bool) -> None:
    file = tmp_path / "tekken.json"
    file.write_text(json.dumps(TEKKEN))
    made = Vocabulary.from_tekken(file) if as_file else Vocabulary.from_tekken(TEKKEN)
    assert all_bytes(made) == [None] * 10 + TEKKEN_WORDS[:258]
    assert made.eos_token_ids == (2,)
    assert Vocabulary.from_tekken(str(file), [2]) == made


def test_tekken_that_names_its_end() -> None:
    special = [{"rank": 0, "token_str": "<unk>"}, {"rank": 7, "token_str": "</s>"}]
    data = TEKKEN | {"special_tokens": special}
    assert Vocabulary.from_tekken(data).eos_token_ids == (7,)
    made = Vocabulary.from_tekken(data, [2, 4], size=512)
    assert made.eos_token_ids == (2, 4)
    assert made.size == 512


# --- ends ----------------------------------------------------------------------------------------


def with_configs(generation: object = None, config: object = None, rows: int = 300) -> Any:
    """A model, as far as it is asked."""
    return SimpleNamespace(
        generation_config=SimpleNamespace(eos_token_id=generation),
        config=SimpleNamespace(eos_token_id=config, vocab_size=rows),
    )


@pytest.mark.parametrize(
    ("generation", "config", "ends"),
    [
        (None, None, (256,)),
        (257, None, (256, 257)),
        ([257, 258], None, (256, 257, 258)),
        ([258, 256], 257, (256, 257, 258)),
        (None, [1, 2], (1, 2, 256)),
    ],
)
def test_ends_of_a_model(generation: object, config: object, ends: tuple[int, ...]) -> None:
    tokenizer = fast(byte_level(special=("<eos>", "<end>", "<turn>")), eos_token="<eos>")
    made = Vocabulary.from_huggingface(tokenizer, model=with_configs(generation, config))
    assert made.eos_token_ids == ends
    assert all(made.token_bytes(i) is None for i in ends)
    assert made.size == 300


def test_ends_given_override() -> None:
    tokenizer = fast(byte_level(special=("<eos>", "<end>")), eos_token="<eos>")
    configured = with_configs([256, 257])
    for ends in (257, [257], (257, 257)):
        made = Vocabulary.from_huggingface(tokenizer, model=configured, eos_token_ids=ends)
        assert made.eos_token_ids == (257,)


def test_ends_of_a_tensor() -> None:
    torch = pytest.importorskip("torch")
    tokenizer = fast(byte_level(special=("<eos>", "<end>")), eos_token="<eos>")
    made = Vocabulary.from_huggingface(tokenizer, model=with_configs(torch.tensor([257])))
    assert made.eos_token_ids == (256, 257)


def test_a_real_model() -> None:
    toy = model(rows=320)
    made = Vocabulary.from_huggingface(fast(byte_level(), eos_token="<eos>"), model=toy)
    assert made.eos_token_ids == (EOS, 256)
    assert made.size == 320
    assert made.token_bytes(EOS) is None
    assert made.token_bytes(EOS + 1) == bytes([EOS + 1])
    assert made.token_bytes(319) is None


def test_size_overrides() -> None:
    tokenizer = fast(byte_level(), eos_token="<eos>")
    assert Vocabulary.from_huggingface(tokenizer, model=with_configs(), size=400).size == 400
    # tokens without a row cannot be generated; an end without one is a mistake
    assert Vocabulary.from_huggingface(tokenizer, size=10, eos_token_ids=3).size == 10
    with pytest.raises(GrammarError, match="EOS id 256 is outside"):
        Vocabulary.from_huggingface(tokenizer, model=with_configs(rows=8))


@pytest.mark.parametrize("ends", [[], (), iter([])])
def test_no_end(ends: Iterable[int]) -> None:
    with pytest.raises(GrammarError, match="eos_token_ids"):
        Vocabulary.from_tokens([b"a"], ends)


def test_no_end_known() -> None:
    with pytest.raises(GrammarError, match="eos_token_ids"):
        Vocabulary.from_huggingface(fast(byte_level()))


@pytest.mark.parametrize(("ends", "named"), [([2], 2), ([0, 9], 9), ([-1], -1)])
def test_end_outside(ends: list[int], named: int) -> None:
    with pytest.raises(GrammarError, match=f"EOS id {named} is outside the vocabulary of 2 ids"):
        Vocabulary.from_tokens([b"a", b"b"], ends)


def test_end_in_the_rows_beyond() -> None:
    made = Vocabulary.from_tokens([b"a", b"b"], [9], size=10)
    assert made.eos_token_ids == (9,)
    assert made.size == len(made) == 10


# --- what may be emitted -------------------------------------------------------------------------


def test_only_tokens_with_bytes_are_allowed() -> None:
    """Special tokens, empty ones, gaps and rows beyond the tokenizer never are."""
    made = Vocabulary.from_tokens([b"a", None, b"", b"b", b"<s>", b"aa"], [4, 8], size=70)
    automaton = TokenAutomaton(Grammar.from_regex("(?s).*"), made)
    row = allocate_bitmask(1, made.size).numpy()[0]
    automaton.fill_mask(automaton.start, row)
    allowed = [i for i in range(96) if row[i // 32] >> i % 32 & 1]
    assert allowed == [0, 3, 4, 5, 8]
    for i in range(made.size):
        assert (automaton.advance(automaton.start, i) != automaton.DEAD) == (i in allowed)


def test_end_that_has_a_text_is_never_text() -> None:
    made = Vocabulary.from_tokens([b"a", b"b"], [1])
    assert made.token_bytes(1) is None
    assert made.decode([0, 1, 0]) == b"aa"
    automaton = TokenAutomaton(Grammar.from_regex("a+b?"), made)
    after = automaton.advance(automaton.start, 0)
    assert automaton.advance(after, 1) == automaton.FINISHED


# --- the object ----------------------------------------------------------------------------------


def test_decode() -> None:
    made = Vocabulary.from_tokens([b"\xc3", b"\xa9", None, b"", b"ab", b"<eos>"], [5], size=9)
    assert made.decode([0, 1, 2, 3, 4, 8, 5]) == "éab".encode()
    assert made.decode([]) == b""
    assert made.decode(i for i in (4, 4)) == b"abab"
    for outside in (9, -1, 10**30):
        with pytest.raises(ValueError, match="ids 0 to 8"):
            made.decode([outside])
        with pytest.raises(ValueError, match="ids 0 to 8"):
            made.token_bytes(outside)
    for wrong in ("a", 1.0, True, None):
        with pytest.raises(TypeError, match="must be an integer"):
            made.token_bytes(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("tokens", [["a"], [97], [[97]], [b"a", 3.0]])
def test_tokens_are_bytes(tokens: list[Any]) -> None:
    with pytest.raises(TypeError, match="must be bytes"):
        Vocabulary.from_tokens([*tokens, None], [0])


def test_sizes_and_ends_are_integers() -> None:
    assert Vocabulary.from_tokens([b"a", None], 1) == Vocabulary.from_tokens([b"a", None], [1])
    assert Vocabulary.from_tokens([b"a", None], np.array([1])).eos_token_ids == (1,)
    with pytest.raises(TypeError, match="must be an integer"):
        Vocabulary.from_tokens([b"a", None], "1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be an integer"):
        Vocabulary.from_tokens([b"a", None], [1.0])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="size must be at least 0"):
        Vocabulary.from_tokens([b"a", None], [1], size=-1)


def test_derived_tables() -> None:
    made = Vocabulary.from_tokens([b"a", None, b"", b"bc", b"\xff", b"e"], [5])
    assert made.texts == (b"a", b"", b"", b"bc", b"\xff", b"")
    assert made.single_byte.nonzero()[0].tolist() == [0x61, 0xFF]
    assert made.bytes_in_tokens.nonzero()[0].tolist() == [0x61, 0x62, 0x63, 0xFF]
    assert made.trie.tokens.tolist() == [0, 3, 4]
    for flags in (made.single_byte, made.bytes_in_tokens):
        assert flags.shape == (256,)
        with pytest.raises(ValueError, match="read-only"):
            flags[0] = True


def test_no_token_at_all() -> None:
    made = Vocabulary.from_tokens([None], [0])
    assert not made.bytes_in_tokens.any()
    assert made.trie.node_count == 1


def test_equality() -> None:
    tokens = [b"a", None, b"b", b""]
    made = Vocabulary.from_tokens(tokens, [1])
    assert made == Vocabulary(tuple(tokens), (1, 1))
    assert hash(made) == hash(Vocabulary.from_tokens(list(tokens), {1}))
    others = [
        Vocabulary.from_tokens(tokens, [1, 0]),
        Vocabulary.from_tokens(tokens, [0]),
        Vocabulary.from_tokens(tokens, [1], size=5),
        Vocabulary.from_tokens([b"a", None, b"c", b""], [1]),
        Vocabulary.from_tokens([b"ab", None, b"", b""], [1]),
        Vocabulary.from_tokens([b"", None, b"ab", b""], [1]),
    ]
    assert len({made, *others}) == 7
    assert made != "vocabulary"


def test_changes_of_the_list_do_not_reach_it() -> None:
    tokens: list[bytes | None] = [b"a", bytearray(b"b"), None]  # type: ignore[list-item]
    made = Vocabulary.from_tokens(tokens, [2])
    tokens[1] = b"x"
    tokens.append(b"y")
    assert all_bytes(made) == [b"a", b"b", None]


def test_repr_and_pickle() -> None:
    made = vocabulary()
    assert repr(made) == f"Vocabulary(size={len(TOKENS)}, eos_token_ids=[{EOS}])"
    again = pickle.loads(pickle.dumps(made))
    assert again == made
    assert hash(again) == hash(made)
    assert all_bytes(again) == all_bytes(made)
    assert copy.copy(made) is copy.deepcopy(made) is made


# --- real tokenizers -----------------------------------------------------------------------------

NAMES = [info.name for info in list_tokenizers()]
TEXTS = [
    "Hello, world!",
    " leading and  double  blanks ",
    "tab\tline\nline\r\n\n\n  indented\n",
    "déjà vu, naïve, Ærøskøbing, ß",
    "日本語のテキスト、한국어 텍스트, 中文。",
    "Ελληνικά, русский, עברית, العربية, हिन्दी",
    "🙂👩‍👩‍👧‍👦🇫🇷 ✨ 𝔘𝔫𝔦",
    '{"a": [1, 2.5e-3, null], "b\\n": "c"}',
    "def f(x):\n    return x ** 2  # comment\n",
    "x" * 40 + "1234567890" * 3,
    "\x01\x7f\x1b[0m",
]
LETTERS = "abz AZ09 .,;-_\"'{}[]\n\t\\éüñøß日本語한국中🙂✨🇫👩\u200dаяλ"


@cache
def real(name: str) -> tuple[Any, Vocabulary]:
    try:
        tokenizer = load_tokenizer(name)
    except ModelUnavailable as error:
        pytest.skip(str(error))
    return tokenizer, Vocabulary.from_huggingface(tokenizer)


def assert_decodes(name: str, text: str) -> None:
    tokenizer, made = real(name)
    text = unicodedata.normalize("NFC", text)  # what some normalisers do
    ids = tokenizer(text, add_special_tokens=False).input_ids
    data = made.decode(ids)
    assert data in (text.encode(), b" " + text.encode()), (text, data)


@pytest.mark.model
@pytest.mark.parametrize("name", NAMES)
def test_real_tokenizers_on_chosen_texts(name: str) -> None:
    for text in TEXTS:
        assert_decodes(name, text)


@pytest.mark.model
@pytest.mark.parametrize("name", NAMES)
@given(text=st.text(LETTERS, min_size=1, max_size=40))
@settings(deadline=None, max_examples=100)
def test_real_tokenizers_on_random_texts(name: str, text: str) -> None:
    assert_decodes(name, text)


@pytest.mark.model
@pytest.mark.parametrize("name", NAMES)
def test_real_tokens_one_by_one(name: str) -> None:
    """After a letter, the tokenizer itself writes the token's bytes; broken UTF-8 is left out."""
    tokenizer, made = real(name)
    before = tokenizer.convert_tokens_to_ids("x")
    ids = [i for i in range(0, made.size, 97) if made.token_bytes(i)]
    assert len(ids) > made.size // 120
    for i in ids:
        data = made.token_bytes(i)
        assert data is not None
        shown = tokenizer.backend_tokenizer.decode([before, i], skip_special_tokens=False)
        if "\ufffd" not in shown:
            assert shown.encode() == b"x" + data, i
        else:
            assert b"x" + data == shown.encode() or not _is_text(data)


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.model
@pytest.mark.parametrize("name", NAMES)
def test_real_special_tokens(name: str) -> None:
    tokenizer, made = real(name)
    assert made.size >= len(tokenizer)
    assert tokenizer.eos_token_id in made.eos_token_ids
    for i in tokenizer.all_special_ids:
        assert made.token_bytes(i) is None
    assert made.bytes_in_tokens[list(b'{}[]",: \n0123456789abcxyz')].all()
