r"""Formats: tables from the RFCs, independent parsers, and validators on sampled texts.

Samples of every format are valid for jsonschema and jsonschema-rs, but for ``regex`` in jsonschema:
it takes patterns for Python's, which have no ``\p{L}``, no ``(?<name>...)`` and no ``[^]``.
"""

from __future__ import annotations

import calendar
import datetime
import ipaddress
import random
import re
import unicodedata
import uuid

import idna
import jsonschema
import jsonschema_rs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammars.compiling.compiler import compile_ir
from grammars.frontends.json_schema.formats import KNOWN, format_expr
from grammars.frontends.json_schema.strings import is_in
from grammars.ir import ANY_CHAR, both, repeat, single_rule
from grammars.limits import DEFAULT_LIMITS
from grammars.sampling import Sampler

DRAFT = "https://json-schema.org/draft/2020-12/schema"
LABEL63 = "a" * 63


def matches_format(name: str, value: str, *, idna: bool = True) -> bool:
    expr = format_expr(name, idna=idna)
    assert expr is not None
    return is_in(expr, value)


# format -> (texts of it, texts that are not)
TABLE: dict[str, tuple[list[str], list[str]]] = {
    "date": (
        ["1985-04-12", "2000-02-29", "2024-02-29", "9999-12-31"],
        ["1900-02-29", "2023-02-29", "2024-04-31", "2024-13-01", "2024-00-10", "24-01-01", "2024-1-1",
         "2024-01-01 ", "0000-01-01", "２024-01-01", ""],
    ),
    "time": (
        ["00:00:00Z", "23:59:59.5z", "12:00:00-00:00", "12:00:00+23:59", "23:59:60Z", "05:29:60+05:30",
         "23:59:60.25+00:00", "18:59:60-05:00"],
        ["24:00:00Z", "12:60:00Z", "12:00:61Z", "12:00:00", "12:00:00+24:00", "12:00:00.Z", "12:00Z",
         "22:59:60Z", "05:29:60+05:00", "23:59:60-05:00", "12:00:00+0100"],
    ),
    "date-time": (
        ["1985-04-12T23:20:50.52Z", "1996-12-19T16:39:57-08:00", "1990-12-31T23:59:60Z",
         "1990-12-31T15:59:60-08:00", "2017-01-01T00:59:60+01:00", "2012-06-30t23:59:60.9z"],
        ["1990-12-30T23:59:60Z", "2017-01-01T00:59:60Z", "2016-12-31T00:59:60+01:00",
         "1985-04-12 23:20:50Z", "1985-04-12T23:20:50", "1985-02-29T00:00:00Z", "1985-04-12"],
    ),
    "duration": (
        ["P1Y2M3DT4H5M6S", "P4W", "PT0S", "P1DT12H", "P1Y2M", "PT1H2M", "PT36H", "P10M"],
        ["P", "PT", "P1YT", "P1Y3D", "PT1H3S", "P1W2D", "1D", "P1.5D", "P-1D", "P1S", "p1d"],
    ),
    "email": (
        ["joe@example.com", "a.b+c@d.e", '"a b@\\""@x.org', '""@x', "a@[127.0.0.1]", "a@[IPv6:::1]",
         "a@localhost", "!#$%&'*+-/=?^_`{|}~@a", "a" * 64 + "@b.c"],
        ["joe", "@b", "a@", ".a@b", "a.@b", "a..b@c", "a b@c", "a@b_c", "a@-b", "a@[300.0.0.1]",
         "a@[::1]", "a@b@c", "a@b.", "a" * 65 + "@b.c", "é@b.c", 'a"b@c'],
    ),
    "idn-email": (
        ["δοκιμή@παράδειγμα.gr", "joe@example.com", '"é è"@a', "用户@例子.中国"],
        ["a", "é@", "@é", "é..é@a", "a@é!", "a@-é"],
    ),
    "hostname": (
        ["example.com", "a", "1.2.3", "a-b.c--d", LABEL63 + ".com", ".".join("a" * 127)],
        ["", ".", "a.", ".a", "a..b", "-a", "a-", "a_b", "é.fr", LABEL63 + "a", "a b",
         ".".join([LABEL63] * 4), "ab--c", "xn--a"],
    ),
    "idn-hostname": (
        ["example.com", "bücher.de", "실례.테스트", "例え。jp", "l·l", "א׳ב", "α͵β", "क्‍ष", "بي‌بي",
         "・ぁ", "straße", "א1", "ب٠", "͵ἀ", "ἀθήνα", "достопримечательность", "ঢাকা", "தமிழ்நாடு",
         "donaudampfschifffahrtsgesellschaftskapitän", "เทศบาลนครเชียงใหม่", "www.münchen.bayern.de",
         "οδοντιατρικός-σύλλογος", "ישראלישראלישראל"],
        ["", "l·a", "·l", "a׳", "α͵", "क‍ष", "a‌b", "・a", "\u0301a", "-é", "é-", "é--é", "é.",
         "A\u00ad", "Ü", "א0٠", "0א", "aא", "é" * 64, "☃", "ᾳ", "\u0bc6\u0bbe", "கெ\u0bbe",
         "\u09a8\u0928\u093c"],
    ),
    "ipv4": (
        ["0.0.0.0", "127.0.0.1", "255.255.255.255"],
        ["256.0.0.1", "01.2.3.4", "1.2.3", "1.2.3.4.5", "1.2.3.4 ", "0x7f.0.0.1", "１.2.3.4"],
    ),
    "ipv6": (
        ["::", "::1", "1::", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:1.2.3.4", "::1.2.3.4", "fe80::1:2"],
        ["1", ":1", "1:", ":::", "1::2::3", "1:2:3:4:5:6:7:8:9", "12345::", "::1%eth0", "[::1]",
         "1:2:3:4:5:6:7:1.2.3.4", "::1.2.3.4:5", "::1.2.3.256"],
    ),
    "uri": (
        ["http://a/b?c#d", "mailto:a@b", "urn:x:y", "a:", "http://[::1]:80/", "http://[v1.a:b]",
         "a+b-c.d:e", "http://%41@b:/", "file:///etc"],
        ["a", "//a", "/a", "1a:b", "a,b:c", "http://a b", "http://a/%4", "http://[::1", "http://é",
         "http://a:b/", "a:#b#c", "http://a/[b]", ""],
    ),
    "uri-reference": (
        ["", "a", "/a/b", "//a", "?q", "#f", "./a:b", "http://a", "a/b:c"],
        ["1:b", "\\a", "a b", "#a#b", "é", "%", "//a:b"],
    ),
    "iri": (
        ["http://é/ß?\ue000#中", "urn:é", "http://[::1]"],
        ["é:b", "/é", "http://é é", "http://a/\ue000", "http://a/#\ue000", "a:\ufffe"],
    ),
    "iri-reference": (["é", "//é", "#é", "", "é/b:c"], ["é:b", "\\é", "a\x80"]),
    "uuid": (
        ["2eb8aa08-aa98-11ea-b4aa-73b441d16380", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"],
        ["2eb8aa08aa9811eab4aa73b441d16380", "2eb8aa08-aa98-11ea-b4aa-73b441d1638g",
         "{2eb8aa08-aa98-11ea-b4aa-73b441d16380}", "2eb8aa08-aa98-11ea-b4aa-73b441d1638"],
    ),
    "uri-template": (
        ["", "/a/{b}", "{+a.b,c:30,d*}{?e}", "é%41", "{#%41}", "{a_1}", "{=a}", "{,a}", "{!a}", "{@a}",
         "{|a}", "'{a}'"],
        ["{", "}", "{}", "{a", "{a:0}", "{a:10000}", "{a**}", "{a-b}", "a b", "%4", "{ a}", "{$a}",
         "{==a}", "a|b", "a\x7f", "\"", "<", "a^b", "`", "\\"],
    ),
    "json-pointer": (["", "/", "/a~0b~1c/0", "/é//"], ["a", "#/a", "/~", "/~2"]),
    "relative-json-pointer": (
        ["0", "12/a", "0#", "1/~0"],
        ["", "/a", "01", "-1", "0##", "1#/a", "0a", "0+1"],
    ),
    "regex": (
        ["", "^a+$", "(a|b(?:c)*?)", r"[\w.-]{2,10}", r"\p{L}\u0041\u{1F600}", "(?<n>x)", "(?=a)b",
         "[^]", "[]", r"[\u4e00-\u9fa5a-z]", r"\d{3}-\d{4}", "(?<!a|b)c", "a{3}b{3,}", r"\/[/]"],
        ["(", ")", "[", "]", "{", "a**", "*", "a{2,1}", r"\a", r"\_", "(?i)a", "(?P<n>a)", "[b-a]",
         r"[\w-a]", "\\", "(?=a)*", "(?<n>a)(?<n>b)", r"\x4", "^*", "(?#x)", r"\p{Foo}"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_table(name: str) -> None:
    yes, no = TABLE[name]
    assert [x for x in yes if not matches_format(name, x)] == []
    assert [x for x in no if matches_format(name, x)] == []


def test_every_format_has_a_table() -> None:
    assert frozenset(TABLE) == KNOWN


# alphabets that the grammar lets grow to the bound, with what it counts, and that bound
ALPHABETS = {
    "latin": ("ßàâäçéèêëíìîïñóòôöõøúùûüýþāăąćčďđēęěğģīįķļľłńňōőŕřśşšťţūůűųźżž", 46, True),
    "greek": ("άέήίαβγδεζηθικλμνξοπρςστυφχψωϊϋόύώ", 52, True),
    "cyrillic": ("абвгдежзийклмнопрстуфхцчшщъыьэюяѐёђѓєѕіїјљњћќѝўџґ", 48, True),
    "devanagari": ("अआइईउऊएऐओऔकखगघचछजझटठडढणतथदधनपफबभमयरलवशषसह", 19, False),
    "tamil and lao": ("அஆஇஈஉஊஎஏஐஒஓகஙசஜஞடணதநனபமயரறலளழவஷஸஹກຂຄງຈຊຍດຕຖທນບປຜຝພຟມຢຣລວສຫອຮ", 19, False),
    "devanagari and lao": ("अआຮ", 19, False),
    "georgian": ("აბგდევზთიკლმნოპჟრსტუფქღყშჩცძწჭხჯჰ", 24, False),
    "hebrew": ("אבגדהוזחטיךכלםמןנסעףפץצקרשת", 50, True),
    "arabic": ("ابتثجحخدذرزسشصضطظعغفقكلمنهويپچگک", 45, True),
    "mixed": ("ßж中ㄅ", 13, False),
}


@pytest.mark.parametrize("name", ALPHABETS)
@given(st.data())
@settings(max_examples=30, deadline=None)
def test_labels_are_as_long_as_punycode_allows(name: str, data: st.DataObject) -> None:
    """Up to the bound every label is short enough, and is accepted."""
    letters, bound, octets = ALPHABETS[name]
    right = name in ("hebrew", "arabic")
    ends = letters[:1] + letters[-1:]  # far apart, which costs most
    few = st.sampled_from(data.draw(st.sampled_from([letters, ends, letters[:4] + ends])))
    plain = st.sampled_from("0189" if right else "abyz019")
    pool = st.one_of(
        *[few] * data.draw(st.integers(1, 6)), *([plain] if data.draw(st.booleans()) else [])
    )
    label = letters[0] if right else ""
    while True:
        longer = label + data.draw(pool)
        if (len(longer.encode()) if octets else len(longer)) > bound:
            break
        label = longer
    assert len(idna.encode(label, uts46=False)) <= 63
    assert matches_format("idn-hostname", label)
    assert matches_format("idn-hostname", label[: len(label) // 2] + "." + label)


# --- the most octets that Punycode may need -------------------------------------------------------


def _digits(deltas: np.ndarray, bias: int) -> np.ndarray:
    """How many digits RFC 3492 writes for each delta."""
    rest, count, live, k = deltas.copy(), np.zeros_like(deltas), np.ones(len(deltas), bool), 36
    while live.any():
        threshold = 1 if k <= bias else 26 if k >= bias + 26 else k - bias
        count[live] += 1
        live &= rest >= threshold
        rest = np.where(live, (rest - threshold) // (36 - threshold), rest)
        k += 36
    return count


def _adapted(deltas: np.ndarray, points: int, damp: int) -> np.ndarray:
    """The bias after each delta."""
    rest = deltas // damp
    rest, k = rest + rest // points, np.zeros_like(deltas)
    while (rest > 455).any():
        k = np.where(rest > 455, k + 36, k)
        rest = np.where(rest > 455, rest // 35, rest)
    return k + 36 * rest // (rest + 38)


def most_octets(basic: int, others: int, low: int, high: int) -> int:
    """A bound on the A-labels of so many ASCII characters and so many others in a range.

    Behind the first, the deltas and ones for each add up to no more than range times length; by
    bias and digits so far the least such sum is kept.
    """
    most = (high - low + 1) * (basic + others)
    first = np.arange((low - 0x80) * (basic + 1), (high - 0x80 + 1) * (basic + 1) + basic)
    pairs = zip(_digits(first, 72), _adapted(first, basic + 1, 700), strict=True)
    sums = {(int(bias), int(n)): 0 for n, bias in set(pairs)}
    deltas = np.arange(most + 1)
    for j in range(1, others):
        bias_after = _adapted(deltas, basic + 1 + j, 2)
        longer: dict[tuple[int, int], int] = {}
        for bias in {bias for bias, _ in sums}:
            both, where = np.unique(_digits(deltas, bias) * 1_000 + bias_after, return_index=True)
            for (before, n), total in sums.items():
                if before != bias:
                    continue
                for pair, delta in zip(both.tolist(), where.tolist(), strict=True):
                    key, then = (pair % 1_000, n + pair // 1_000), total + delta + 1
                    if then <= min(most, longer.get(key, most)):
                        longer[key] = then
        sums = longer
    return 4 + basic + (basic > 0) + max(n for _, n in sums)


@pytest.mark.parametrize(
    ("low", "high", "bound", "weight"),
    [
        (0xDF, 0x17F, 46, 2),
        (0x3AC, 0x3CE, 52, 2),
        (0x430, 0x491, 48, 2),
        (0x5D0, 0x5F4, 50, 2),
        (0x600, 0x6CC, 45, 2),
        (0x10D0, 0x10FF, 24, 1),
    ],
)
def test_every_label_of_the_bound_fits(low: int, high: int, bound: int, weight: int) -> None:
    for others in {1, 8, bound // weight}:
        assert most_octets(bound - weight * others, others, low, high) <= 63


def test_bound_is_no_less_than_what_punycode_writes() -> None:
    draws = random.Random(0)
    for _ in range(200):
        low = draws.choice([0x3AC, 0x430])
        text = "".join(chr(draws.choice([low, low + 0x20, 0x61])) for _ in range(6))
        others = sum(c != "a" for c in text)
        if others:
            written = len(text.encode("punycode")) + 4
            assert written <= most_octets(6 - others, others, low, low + 0x20)


def test_allowed_characters_are_those_of_the_tables() -> None:
    """Single characters, and each behind a letter, where that is how they may stand."""
    for point in range(0x80, 0x10000):
        char = chr(point)
        for text in (char, "a" + char):
            if matches_format("idn-hostname", text):
                assert idna.encode(text, uts46=False), hex(point)
    letters = [c for c in map(chr, range(0x80, 0x3000)) if unicodedata.category(c) in ("Ll", "Lo")]
    refused = [c for c in letters if _is_valid_label(c) and not matches_format("idn-hostname", c)]
    assert refused == []


def _is_valid_label(label: str) -> bool:
    try:
        return bool(idna.encode(label, uts46=False))
    except idna.IDNAError:
        return False


def test_unknown_formats() -> None:
    assert format_expr("phone") is None


def test_a_lone_surrogate_is_no_character() -> None:
    assert not matches_format("json-pointer", "/\ud800")


def test_host_names_before_idna() -> None:
    for name in ("xn--4gbwdl.xn--wgbh1c", "ab--cd.example"):
        assert matches_format("hostname", name, idna=False)
        assert not matches_format("hostname", name)
    assert not matches_format("hostname", "-a", idna=False)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("hostname", 5, 9),
        ("email", 3, 254),
        ("date-time", 0, 255),
        ("uri", 1, 2048),
        ("ipv6", 0, 45),
    ],
)
def test_with_a_bound_on_the_length(name: str, low: int, high: int) -> None:
    expr = format_expr(name)
    assert expr is not None
    program = compile_ir(single_rule(both(expr, repeat(ANY_CHAR, low, high))), DEFAULT_LIMITS)
    assert not program.is_empty


# -- against other implementations -----------------------------------------------------------------


def mutated(texts: st.SearchStrategy[str], alphabet: str) -> st.SearchStrategy[str]:
    """Texts, some of them with one character put in, changed or left out."""

    def change(text: str, at: int, char: str, kind: int) -> str:
        at %= len(text) + 1
        rest = text[at:] if kind == 0 else text[at + 1 :]
        return text[:at] + ("" if kind == 2 else char) + rest

    chars = st.sampled_from(alphabet)
    changed = st.builds(change, texts, st.integers(0, 60), chars, st.integers(0, 2))
    return texts | changed


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 9999), st.integers(0, 13), st.integers(0, 32))
def test_dates(year: int, month: int, day: int) -> None:
    exists = year > 0 and 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]
    assert matches_format("date", f"{year:04}-{month:02}-{day:02}") == exists
    assert matches_format("date-time", f"{year:04}-{month:02}-{day:02}T00:00:00Z") == exists


TIME = re.compile(r"([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?([Zz]|([+-])([0-9]{2}):([0-9]{2}))")


def is_time(text: str) -> bool:
    """By the prose of RFC 3339; leap seconds at offsets of whole quarters only."""
    found = TIME.fullmatch(text)
    if not found:
        return False
    hour, minute, second = (int(found[i]) for i in (1, 2, 3))
    off_hour, off_minute = int(found[7] or 0), int(found[8] or 0)
    if hour > 23 or minute > 59 or second > 60 or off_hour > 23 or off_minute > 59:
        return False
    offset = (off_hour * 60 + off_minute) * (-1 if found[6] == "-" else 1)
    at = (hour * 60 + minute - offset) % 1440
    return second < 60 or (at == 1439 and off_minute % 15 == 0)


def times() -> st.SearchStrategy[str]:
    def leap(offset: int) -> str:
        at = (1439 + offset) % 1440
        sign, away = "-" if offset < 0 else "+", abs(offset)
        return f"{at // 60:02}:{at % 60:02}:60{sign}{away // 60:02}:{away % 60:02}"

    usual = st.builds(
        "{:02}:{:02}:{:02}{}{}".format,
        st.integers(0, 24),
        st.integers(0, 60),
        st.integers(0, 61),
        st.sampled_from(["", ".5", ".123456789"]),
        st.sampled_from(["Z", "z", "+00:00", "-00:00", "+05:45", "-23:59", "+24:00"]),
    )
    return usual | st.builds(leap, st.integers(-1439, 1439))


@settings(max_examples=500, deadline=None)
@given(mutated(times(), "0123456789:.+-Zz "))
def test_times(text: str) -> None:
    assert matches_format("time", text) == is_time(text)


@settings(max_examples=200, deadline=None)
@given(st.datetimes(min_value=datetime.datetime(1, 1, 2), timezones=st.timezones()))
def test_date_times_of_python(moment: datetime.datetime) -> None:
    offset = moment.utcoffset()
    if offset is not None and not offset.seconds % 60:
        assert matches_format("date-time", moment.isoformat())


@settings(max_examples=500, deadline=None)
@given(mutated(st.ip_addresses(v=4).map(str), "0123456789. a"))
def test_ipv4(text: str) -> None:
    try:
        ipaddress.IPv4Address(text)
        valid = True
    except ValueError:
        valid = False
    assert matches_format("ipv4", text) == valid


def ipv6_texts() -> st.SearchStrategy[str]:
    group = st.sampled_from(["0", "1", "ab", "FfFf", "12345", ""])
    parts = st.lists(group | st.sampled_from(["1.2.3.4", "1.2.3.300"]), min_size=1, max_size=9)
    return st.ip_addresses(v=6).map(str) | parts.map(":".join)


@settings(max_examples=1000, deadline=None)
@given(mutated(ipv6_texts(), "0af:.%g"))
def test_ipv6(text: str) -> None:
    try:
        valid = ipaddress.IPv6Address(text).scope_id is None
    except ValueError:
        valid = False
    assert matches_format("ipv6", text) == valid


@settings(max_examples=200, deadline=None)
@given(mutated(st.uuids().map(str), "0aAg-"))
def test_uuids(text: str) -> None:
    try:
        valid = str(uuid.UUID(text)) == text.lower()
    except ValueError:
        valid = False
    assert matches_format("uuid", text) == valid


# -- samples ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_samples_are_valid(name: str) -> None:
    expr = format_expr(name)
    assert expr is not None
    sampler = Sampler(single_rule(expr), DEFAULT_LIMITS)
    schema = {"$schema": DRAFT, "type": "string", "format": name}
    strict = jsonschema_rs.validator_for(schema, validate_formats=True)
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    for seed in range(300):
        text = sampler.sample(random.Random(seed), 300).decode()
        assert matches_format(name, text), text
        assert strict.is_valid(text), text
        assert name == "regex" or checker.conforms(text, name), text
