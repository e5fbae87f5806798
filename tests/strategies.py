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
    REPEATED_CLOSE,
    REPEATED_COMMA,
    And,
    ByteSet,
    Expr,
    GrammarIR,
    Literal,
    Mark,
    Member,
    Not,
    Ref,
    Repeat,
    Rule,
    alt,
    bag,
    both,
    chars,
    minus,
    not_chars,
    optional,
    repeat,
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


# --- bags ----------------------------------------------------------------------------------------


def items() -> st.SearchStrategy[Expr]:
    """Parts that are never empty and often overlap."""
    literals = st.text("abé", min_size=1, max_size=2).map(lambda s: Literal(s.encode()))
    runs = st.builds(lambda x, most: repeat(x, 1, most), literals, st.sampled_from([2, None]))
    classes = st.sets(st.sampled_from("abcé"), min_size=1, max_size=3).map(
        lambda letters: chars([(ord(letter), ord(letter)) for letter in letters])
    )
    pairs = st.builds(lambda x, y: alt(x, y), literals, literals)
    return st.one_of(literals, literals, classes, runs, pairs)


@st.composite
def bags(draw: st.DrawFn, item: st.SearchStrategy[Expr] | None = None) -> Expr:
    """A bag of 2 to 4 members; some need more than they may have and are empty."""
    group = st.sampled_from([None, None, None, 0, 1])
    bounds = st.sampled_from([(0, 1), (0, 1), (1, 1), (0, 2), (1, 2), (0, None), (1, None), (2, 3)])
    members = [
        Member(draw(items() if item is None else item), *draw(bounds), draw(group))
        for _ in range(draw(st.integers(2, 4)))
    ]
    separator = draw(st.sampled_from([b"c", b"c", b"c", b"b", b"ca", b"c?"]))
    between = optional(Literal(b"c")) if separator == b"c?" else Literal(separator)
    low = draw(st.sampled_from([1, 1, 2, 3]))
    high = draw(st.sampled_from([None, None, low, low + 1]))
    return bag(members, between, low, high, ordered=draw(st.booleans()))


@st.composite
def bag_grammars(draw: st.DrawFn) -> GrammarIR:
    """Bags alone, in a sequence, in bags, in recursion."""
    names = [f"r{i}" for i in range(draw(st.integers(1, 3)))]
    ref = st.sampled_from(names).map(Ref)
    around = st.builds(lambda x, y: seq(Literal(x), y), st.sampled_from([b"a", b"b"]), ref)
    inner = st.builds(lambda x: seq(Literal(b"a"), x, Literal(b"b")), bags())
    item = st.one_of(items(), items(), items(), around, inner)
    part = st.one_of(bags(item), bags(item), leaves(), ref)
    body = st.one_of(
        bags(item),
        st.lists(part, min_size=2, max_size=3).map(lambda parts: seq(*parts)),
        st.lists(part, min_size=2, max_size=3).map(lambda parts: alt(*parts)),
        st.builds(lambda x: Repeat(x, 0, 2), bags(item)),
    )
    rules = [
        Rule(
            name,
            alt(draw(body), draw(st.one_of(items(), st.just(NOTHING)))),
            shared=draw(st.booleans()),
        )
        for name in names
    ]
    return GrammarIR(tuple(rules), names[0])


# --- JSON with memory ----------------------------------------------------------------------------


def json_strings() -> st.SearchStrategy[Expr]:
    """Strings that are known, free, or one string written in two ways."""
    return st.sampled_from(
        [
            Literal(b'"a"'),
            Literal(b'"b"'),
            Literal(b'""'),
            alt(Literal(b'"a"'), Literal(b'"b"')),
            alt(Literal(b'"a"'), Literal(b'"\\u0061"')),
            seq(Literal(b'"'), repeat(chars([(97, 98)])), Literal(b'"')),
            seq(Literal(b'"'), repeat(chars([(97, 98)]), 0, 1), Literal(b'"')),
        ]
    )


def json_scalars() -> st.SearchStrategy[Expr]:
    """Strings and numbers; some numbers are one value written in two ways."""
    numbers = st.sampled_from(
        [
            Literal(b"1"),
            alt(Literal(b"1"), Literal(b"11")),
            alt(Literal(b"1"), Literal(b"1.0")),
            repeat(Literal(b"1"), 1),
        ]
    )
    return st.one_of(json_strings(), json_strings(), numbers)


def json_array(item: Expr, kind: str, low: int, high: int | None) -> Expr:
    """An array whose items must differ, may repeat, or must repeat (``kind``)."""
    comma, close = Literal(b","), Literal(b"]")
    any_comma, any_close = alt(comma, Mark(REPEATED_COMMA)), alt(close, Mark(REPEATED_CLOSE))
    most = None if high is None else high - 1
    if kind == "repeated":
        last = alt(
            Mark(REPEATED_CLOSE),
            seq(Mark(REPEATED_COMMA), item, repeat(seq(any_comma, item), 0, most), any_close),
        )
        return seq(Literal(b"["), item, repeat(seq(comma, item), 0, most), last)
    if kind == "any":
        comma, close = any_comma, any_close
    body = seq(item, repeat(seq(comma, item), max(low - 1, 0), most), close)
    return seq(Literal(b"["), body if low else alt(Literal(b"]"), body))


def json_object(members: Sequence[Member], low: int, high: int | None, ordered: bool) -> Expr:
    """An object whose members are a bag."""
    body = bag(members, Literal(b","), low or 1, high, ordered=ordered)
    return seq(Literal(b"{"), body if low else optional(body), Literal(b"}"))


@st.composite
def json_values(draw: st.DrawFn, inner: st.SearchStrategy[Expr], compare_items: bool) -> Expr:
    """An array or object of inner values."""
    low = draw(st.integers(0, 2))
    high = draw(st.sampled_from([None, low + 1, max(low, 1)]))
    if draw(st.booleans()):
        kinds = ["distinct", "any", "repeated"] if compare_items else ["distinct"]
        return json_array(draw(inner), draw(st.sampled_from(kinds)), low, high)
    bounds = st.sampled_from([(0, 1), (1, 1), (0, None), (0, 2), (1, 2)])
    members = [
        Member(seq(draw(json_strings()), Literal(b":"), draw(inner)), *draw(bounds))
        for _ in range(draw(st.integers(1, 3)))
    ]
    return json_object(members, low, high, draw(st.booleans()))


@st.composite
def memory_grammars(draw: st.DrawFn) -> GrammarIR:
    """JSON of little depth, over the strings of ``a`` and ``b`` and numbers of ones."""
    keys, items_ = draw(st.sampled_from([(True, True), (True, False), (False, True)]))
    flat = json_values(json_scalars(), items_)
    deep = json_values(st.one_of(json_scalars(), flat), items_)
    rules = [Rule("root", draw(st.one_of(flat, flat, deep)))]
    if draw(st.booleans()):
        rules.append(Rule("v", draw(flat), shared=draw(st.booleans())))
        rules[0] = Rule("root", draw(json_values(st.just(Ref("v")), items_)))
    return GrammarIR(tuple(rules), "root", distinct_keys=keys, compare_items=items_)


JSON_BYTES = tuple(bytes([value]) for value in b'ab1"{}[]:,')
_JSON_PIECES = (
    b'"a"', b'","', b'":', b'{"', b'"]', b',"', b'["', b'a"', b'"a', b"1,", b"1]", b'"}', b'"a":1',
    b"11", b"]]", b'b",', b'["a"', b"},{", b"1.0", b"\\u00", b"61",
)  # fmt: skip


@st.composite
def json_vocabularies(draw: st.DrawFn) -> tuple[tuple[bytes | None, ...], tuple[int, ...]]:
    """Tokens for every byte (mostly) and some longer ones."""
    extra = draw(st.lists(st.sampled_from(_JSON_PIECES), max_size=6))
    single = list(JSON_BYTES)
    if draw(st.integers(0, 3)) == 0:
        single.remove(draw(st.sampled_from(single)))
    tokens = (*single, *extra, None)
    return tokens, (len(tokens) - 1,)


def json_texts() -> st.SearchStrategy[bytes]:
    """JSON of the same little world, and pieces of it."""
    scalars = st.sampled_from(['"a"', '"b"', '""', "1", "11", "1.0", '"\\u0061"'])
    arrays = st.lists(scalars, max_size=3).map(lambda parts: f"[{','.join(parts)}]")
    members = st.lists(st.tuples(scalars, scalars).map(":".join), max_size=3)
    objects = members.map(lambda parts: f"{{{','.join(parts)}}}")
    nested = st.lists(st.one_of(scalars, arrays, objects), max_size=3)
    values = st.one_of(arrays, objects, nested.map(lambda parts: f"[{','.join(parts)}]"))
    whole = values.map(str.encode)
    return st.one_of(whole, st.builds(lambda text, end: text[:end], whole, st.integers(0, 12)))


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
