"""Hypothesis strategies: small grammars of every shape, small vocabularies, texts, tokenisations.

All of them live on a tiny alphabet (``a``, ``b``, ``c`` and the two-byte ``é``), where collisions,
ambiguities and dead branches are frequent.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from grammars.ir import (
    EPSILON,
    NOTHING,
    And,
    ByteSet,
    Expr,
    GrammarIR,
    Literal,
    Not,
    Ref,
    Repeat,
    Rule,
    alt,
    both,
    chars,
    minus,
    not_chars,
    seq,
)

LETTERS = "abcé"
BYTES = (b"a", b"b", b"c", b"\xc3", b"\xa9")


# --- grammars ------------------------------------------------------------------------------------


def leaves() -> st.SearchStrategy[Expr]:
    """Single steps: literals, classes of code points and of bytes, the empty text."""
    literals = st.text(LETTERS, min_size=1, max_size=3).map(lambda s: Literal(s.encode()))
    code_points = st.sets(st.sampled_from(LETTERS), min_size=1).map(
        lambda letters: [(ord(letter), ord(letter)) for letter in letters]
    )
    byte_sets = st.sets(st.sampled_from(b"".join(BYTES)), min_size=1).map(
        lambda values: ByteSet(tuple(_ranges(values)))
    )
    return st.one_of(
        literals,
        literals,
        code_points.map(chars),
        code_points.map(not_chars),
        byte_sets,
        st.just(EPSILON),
    )


def _ranges(values: set[int]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    for value in sorted(values):
        if out and out[-1][1] == value - 1:
            out[-1] = (out[-1][0], value)
        else:
            out.append((value, value))
    return out


def _bounds(limit: int) -> st.SearchStrategy[tuple[int, int | None]]:
    finite = st.tuples(st.integers(0, limit), st.integers(0, limit)).map(
        lambda pair: (min(pair), max(pair))
    )
    open_ended = st.tuples(st.integers(0, min(limit, 3)), st.none())
    return st.one_of(finite, open_ended, st.just((0, None)), st.just((0, 1)))


def _combine(inner: st.SearchStrategy[Expr], counts: int) -> st.SearchStrategy[Expr]:
    repeats = st.builds(lambda x, mn: Repeat(x, mn[0], mn[1]), inner, _bounds(counts))
    return st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(lambda items: seq(*items)),
        st.lists(inner, min_size=2, max_size=3).map(lambda items: seq(*items)),
        st.lists(inner, min_size=2, max_size=3).map(lambda items: alt(*items)),
        repeats,
    )


def plain_regular() -> st.SearchStrategy[Expr]:
    """Regular expressions without intersection or complement."""
    return st.recursive(leaves(), lambda inner: _combine(inner, 3), max_leaves=4)


def boolean(*refs: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    """Intersections and differences of regular parts, sometimes naming a regular rule."""
    part = st.one_of(plain_regular(), *refs)
    nested = st.one_of(part, st.builds(minus, part, part))
    return st.one_of(
        st.builds(both, nested, part),
        st.builds(minus, nested, part),
        st.builds(lambda x, y, z: And((x, Not(y), Not(z))), nested, part, part),
        st.builds(lambda x: And((Repeat(chars(_OF_LETTERS), 0, 3), Not(x))), part),
    )


_OF_LETTERS = [(ord(letter), ord(letter)) for letter in LETTERS]


def regular() -> st.SearchStrategy[Expr]:
    """Any regular expression of the intermediate form."""
    return st.recursive(
        st.one_of(leaves(), leaves(), boolean()), lambda inner: _combine(inner, 6), max_leaves=6
    )


@st.composite
def grammars(draw: st.DrawFn, *, max_rules: int = 4) -> GrammarIR:
    """Any grammar: recursion of every kind, ambiguity, empty and unproductive rules.

    Rules ``r0..`` may refer to any of themselves; ``x0..`` are regular and may stand under And/Not.
    """
    names = [f"r{i}" for i in range(draw(st.integers(1, max_rules)))]
    regular_names = [f"x{i}" for i in range(draw(st.integers(0, 2)))]
    regular_refs = [st.just(Ref(name)) for name in regular_names]
    ref = st.sampled_from([Ref(name) for name in names + regular_names])
    step = st.one_of(leaves(), leaves(), ref, ref, boolean(*regular_refs))
    body = st.recursive(step, lambda inner: _combine(inner, 3), max_leaves=6)
    shaped = st.one_of(body, _recursive_shape(names, leaves()))
    rules = [Rule(name, draw(shaped), shared=draw(st.booleans())) for name in names]
    rules += [Rule(name, draw(regular()), shared=draw(st.booleans())) for name in regular_names]
    return GrammarIR(tuple(rules), names[0])


@st.composite
def _recursive_shape(draw: st.DrawFn, names: Sequence[str], part: st.SearchStrategy[Expr]) -> Expr:
    """The recursive shapes that parsers get wrong, each with an exit (sometimes an empty one)."""
    me = Ref(draw(st.sampled_from(names)))
    other = Ref(draw(st.sampled_from(names)))
    x, y = draw(part), draw(part)
    exit_ = draw(st.one_of(part, st.just(EPSILON), st.just(NOTHING)))
    shapes = [
        seq(me, x),  # left
        seq(x, me),  # right
        seq(x, me, y),  # nested
        seq(me, me),  # ambiguous
        seq(me, x, me),
        seq(x, me, y, other),  # mutual, where the names fall so
        seq(alt(x, EPSILON), me),  # hidden left recursion
        Repeat(seq(x, me), 0, 3),
        Repeat(alt(me, x), 0, None),
        alt(me, other),  # a cycle that reads nothing
    ]
    return alt(draw(st.sampled_from(shapes)), exit_)


# --- vocabularies --------------------------------------------------------------------------------

_PIECES = (*BYTES, "é".encode(), b"ab", b"aa", b"bc", b"a\xc3", b"\xa9b", b"abc", b"ca", b"z")


@st.composite
def vocabularies(draw: st.DrawFn) -> tuple[tuple[bytes | None, ...], tuple[int, ...]]:
    """3 to 12 tokens with their end-of-sequence ids.

    Long tokens may lack their bytes as tokens of their own; duplicates, special tokens (``None``)
    and tokens without bytes occur.
    """
    odd = st.sampled_from((None, b""))
    long = st.lists(st.sampled_from(_PIECES), min_size=1, max_size=3).map(b"".join)
    some = st.lists(
        st.one_of(st.sampled_from(_PIECES), st.sampled_from(BYTES), long, odd),
        min_size=2,
        max_size=11,
    )
    complete = st.lists(long, min_size=0, max_size=5).map(lambda extra: [*BYTES, *extra])
    tokens: list[bytes | None] = draw(st.one_of(some, complete))
    ends = draw(st.integers(1, 2))
    for _ in range(ends):
        tokens.insert(draw(st.integers(0, len(tokens))), b"<eos>")
    eos = tuple(i for i, token in enumerate(tokens) if token == b"<eos>")
    return tuple(None if i in eos else token for i, token in enumerate(tokens)), eos


# --- texts and tokenisations ---------------------------------------------------------------------


def texts(max_size: int = 8) -> st.SearchStrategy[bytes]:
    """Byte strings over the alphabet, not always whole characters."""
    return st.lists(st.sampled_from(BYTES), max_size=max_size).map(b"".join)


@st.composite
def segmentation(draw: st.DrawFn, data: bytes, tokens: Sequence[bytes | None]) -> list[int] | None:
    """A random sequence of token ids that spells ``data``, or None where there is none."""
    ways = {len(data): True}  # position -> can the rest be written in tokens?
    for at in range(len(data) - 1, -1, -1):
        ways[at] = any(
            token and data.startswith(token, at) and ways[at + len(token)] for token in tokens
        )
    if not ways[0]:
        return None
    at, out = 0, []
    while at < len(data):
        options = [
            i
            for i, token in enumerate(tokens)
            if token and data.startswith(token, at) and ways[at + len(token)]
        ]
        choice = draw(st.sampled_from(options))
        out.append(choice)
        at += len(tokens[choice] or b"")
    return out
