r"""Properties of characters that ECMA-262 names, as ranges of code points.

The names are ECMA-262's own (tables "Binary Unicode property aliases" and "General_Category", and
Unicode's names of scripts), letter for letter; what has a property is asked of the package
``regex``, once for each property, so all follow the Unicode version of that package.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import regex  # type: ignore[import-untyped]

from grammars.ir import Ranges, normalize_ranges

SURROGATES: Final[Ranges] = ((0xD800, 0xDFFF),)

_CATEGORIES: Final = """
    Letter/L Cased_Letter/LC Uppercase_Letter/Lu Lowercase_Letter/Ll Titlecase_Letter/Lt
    Modifier_Letter/Lm Other_Letter/Lo Mark/M/Combining_Mark Nonspacing_Mark/Mn Spacing_Mark/Mc
    Enclosing_Mark/Me Number/N Decimal_Number/Nd/digit Letter_Number/Nl Other_Number/No
    Punctuation/P/punct Connector_Punctuation/Pc Dash_Punctuation/Pd Open_Punctuation/Ps
    Close_Punctuation/Pe Initial_Punctuation/Pi Final_Punctuation/Pf Other_Punctuation/Po
    Symbol/S Math_Symbol/Sm Currency_Symbol/Sc Modifier_Symbol/Sk Other_Symbol/So Separator/Z
    Space_Separator/Zs Line_Separator/Zl Paragraph_Separator/Zp Other/C Control/Cc/cntrl
    Format/Cf Surrogate/Cs Private_Use/Co Unassigned/Cn
"""
_BINARY: Final = """
    ASCII ASCII_Hex_Digit/AHex Alphabetic/Alpha Any Assigned Bidi_Control/Bidi_C
    Bidi_Mirrored/Bidi_M Case_Ignorable/CI Cased Changes_When_Casefolded/CWCF
    Changes_When_Casemapped/CWCM Changes_When_Lowercased/CWL Changes_When_NFKC_Casefolded/CWKCF
    Changes_When_Titlecased/CWT Changes_When_Uppercased/CWU Dash Default_Ignorable_Code_Point/DI
    Deprecated/Dep Diacritic/Dia Emoji Emoji_Component/EComp Emoji_Modifier/EMod
    Emoji_Modifier_Base/EBase Emoji_Presentation/EPres Extended_Pictographic/ExtPict
    Extender/Ext Grapheme_Base/Gr_Base Grapheme_Extend/Gr_Ext Hex_Digit/Hex
    IDS_Binary_Operator/IDSB IDS_Trinary_Operator/IDST ID_Continue/IDC ID_Start/IDS
    Ideographic/Ideo Join_Control/Join_C Logical_Order_Exception/LOE Lowercase/Lower Math
    Noncharacter_Code_Point/NChar Pattern_Syntax/Pat_Syn Pattern_White_Space/Pat_WS
    Quotation_Mark/QMark Radical Regional_Indicator/RI Sentence_Terminal/STerm Soft_Dotted/SD
    Terminal_Punctuation/Term Unified_Ideograph/UIdeo Uppercase/Upper Variation_Selector/VS
    White_Space/space XID_Continue/XIDC XID_Start/XIDS
"""
_SCRIPTS: Final = """
    Adlam/Adlm Ahom Anatolian_Hieroglyphs/Hluw Arabic/Arab Armenian/Armn Avestan/Avst
    Balinese/Bali Bamum/Bamu Bassa_Vah/Bass Batak/Batk Bengali/Beng Beria_Erfe/Berf
    Bhaiksuki/Bhks Bopomofo/Bopo Brahmi/Brah Braille/Brai Buginese/Bugi Buhid/Buhd
    Canadian_Aboriginal/Cans Carian/Cari Caucasian_Albanian/Aghb Chakma/Cakm Cham Cherokee/Cher
    Chorasmian/Chrs Common/Zyyy Coptic/Copt/Qaac Cuneiform/Xsux Cypriot/Cprt Cypro_Minoan/Cpmn
    Cyrillic/Cyrl Deseret/Dsrt Devanagari/Deva Dives_Akuru/Diak Dogra/Dogr Duployan/Dupl
    Egyptian_Hieroglyphs/Egyp Elbasan/Elba Elymaic/Elym Ethiopic/Ethi Garay/Gara Georgian/Geor
    Glagolitic/Glag Gothic/Goth Grantha/Gran Greek/Grek Gujarati/Gujr Gunjala_Gondi/Gong
    Gurmukhi/Guru Gurung_Khema/Gukh Han/Hani Hangul/Hang Hanifi_Rohingya/Rohg Hanunoo/Hano
    Hatran/Hatr Hebrew/Hebr Hiragana/Hira Imperial_Aramaic/Armi Inherited/Zinh/Qaai
    Inscriptional_Pahlavi/Phli Inscriptional_Parthian/Prti Javanese/Java Kaithi/Kthi
    Kannada/Knda Katakana/Kana Kawi Kayah_Li/Kali Kharoshthi/Khar Khitan_Small_Script/Kits
    Khmer/Khmr Khojki/Khoj Khudawadi/Sind Kirat_Rai/Krai Lao/Laoo Latin/Latn Lepcha/Lepc
    Limbu/Limb Linear_A/Lina Linear_B/Linb Lisu Lycian/Lyci Lydian/Lydi Mahajani/Mahj
    Makasar/Maka Malayalam/Mlym Mandaic/Mand Manichaean/Mani Marchen/Marc Masaram_Gondi/Gonm
    Medefaidrin/Medf Meetei_Mayek/Mtei Mende_Kikakui/Mend Meroitic_Cursive/Merc
    Meroitic_Hieroglyphs/Mero Miao/Plrd Modi Mongolian/Mong Mro/Mroo Multani/Mult Myanmar/Mymr
    Nabataean/Nbat Nag_Mundari/Nagm Nandinagari/Nand New_Tai_Lue/Talu Newa Nko/Nkoo Nushu/Nshu
    Nyiakeng_Puachue_Hmong/Hmnp Ogham/Ogam Ol_Chiki/Olck Ol_Onal/Onao Old_Hungarian/Hung
    Old_Italic/Ital Old_North_Arabian/Narb Old_Permic/Perm Old_Persian/Xpeo Old_Sogdian/Sogo
    Old_South_Arabian/Sarb Old_Turkic/Orkh Old_Uyghur/Ougr Oriya/Orya Osage/Osge Osmanya/Osma
    Pahawh_Hmong/Hmng Palmyrene/Palm Pau_Cin_Hau/Pauc Phags_Pa/Phag Phoenician/Phnx
    Psalter_Pahlavi/Phlp Rejang/Rjng Runic/Runr Samaritan/Samr Saurashtra/Saur Sharada/Shrd
    Shavian/Shaw Siddham/Sidd Sidetic/Sidt SignWriting/Sgnw Sinhala/Sinh Sogdian/Sogd
    Sora_Sompeng/Sora Soyombo/Soyo Sundanese/Sund Sunuwar/Sunu Syloti_Nagri/Sylo Syriac/Syrc
    Tagalog/Tglg Tagbanwa/Tagb Tai_Le/Tale Tai_Tham/Lana Tai_Viet/Tavt Tai_Yo/Tayo Takri/Takr
    Tamil/Taml Tangsa/Tnsa Tangut/Tang Telugu/Telu Thaana/Thaa Thai Tibetan/Tibt Tifinagh/Tfng
    Tirhuta/Tirh Todhri/Todr Tolong_Siki/Tols Toto Tulu_Tigalari/Tutg Ugaritic/Ugar Vai/Vaii
    Vithkuqi/Vith Wancho/Wcho Warang_Citi/Wara Yezidi/Yezi Yi/Yiii Zanabazar_Square/Zanb
"""
OF_STRINGS: Final = frozenset(
    [
        "Basic_Emoji",
        "Emoji_Keycap_Sequence",
        "RGI_Modifier_Sequence",
        "RGI_Flag_Sequence",
        "RGI_Tag_Sequence",
        "RGI_ZWJ_Sequence",
        "RGI_Emoji_Flag_Sequence",
        "RGI_Emoji_Modifier_Sequence",
        "RGI_Emoji_Tag_Sequence",
        "RGI_Emoji_ZWJ_Sequence",
        "RGI_Emoji",
    ]
)
"""Properties of strings, not of characters, which need the flag ``v``."""

_IN_WORDS: Final = {
    "Any": r"[\p{Cn}\P{Cn}]",
    "Assigned": r"\P{Cn}",
    "ASCII": r"[\x00-\x7F]",
    "Cased_Letter": r"[\p{Lu}\p{Ll}\p{Lt}]",
    # what the normal form NFKC changes, and folding of case, and leaving out what is ignorable
    "Changes_When_NFKC_Casefolded": (
        r"[\p{NFKC_Quick_Check=No}\p{Changes_When_Casefolded}"
        r"\p{Default_Ignorable_Code_Point}]"
    ),
}
"""Properties that ``regex`` does not have by these names."""


@lru_cache(maxsize=256)
def property_ranges(written: str) -> Ranges | None:
    r"""The code points of ``\p{written}``; ``None`` if ECMA-262 has no such property.

    Surrogates have the category ``Cs`` alone; ranges of others leave them out.
    """
    name, equals, value = written.partition("=")
    if not equals:
        named = _names(_CATEGORIES).get(written) or _names(_BINARY).get(written)
        kind = ""
    elif name in ("General_Category", "gc"):
        named, kind = _names(_CATEGORIES).get(value), ""
    elif name in ("Script", "sc", "Script_Extensions", "scx"):
        named = _names(_SCRIPTS).get(value)
        kind = "Script_Extensions=" if name in ("Script_Extensions", "scx") else "Script="
    else:
        return None
    if named is None:
        return None
    if named == "Surrogate":
        return SURROGATES
    found = matching(_IN_WORDS.get(named, rf"\p{{{kind}{named}}}"))
    has_surrogates = named in ("Any", "Assigned", "Other")
    return normalize_ranges([*found, *SURROGATES]) if has_surrogates else found


@lru_cache(maxsize=256)
def any_property_ranges(
    name: str, *, ignore_case: bool = False, in_set: bool = False
) -> Ranges | None:
    r"""The code points of a property by any name that Unicode, ECMA-262 or ``regex`` have for it.

    ``regex`` reads names without regard to case, blanks, hyphens and underscores, and looks for them
    among categories, scripts, blocks and other properties.

    Args:
        name: ``L``, ``Greek``, ``Script=Greek``, ``scx=Greek``, ``Alphabetic``, ...
        ignore_case: with what ``regex`` matches under its flag ``i``.
        in_set: the same where it stands beside others between brackets: ``regex`` then adds every
            character of which another case has the property (the micro sign, which has the script
            Common, matches ``(?i)[\p{Greek}_]`` though not ``(?i)\p{Greek}``).

    Returns:
        the ranges, or ``None`` if there is no such property.
    """
    known = property_ranges(name)
    if known is not None and not ignore_case:
        return known
    if not _NAME.fullmatch(name):
        return None
    one = rf"\p{{{_UNLIKE.get(name, name)}}}"
    if ignore_case:
        one = f"(?i:[{one}\\ud800])" if in_set else f"(?i:{one})"
    try:
        return matching(one)
    except regex.error:
        return known


_NAME: Final = regex.compile(r"[\w &.=:/-]+")
_UNLIKE: Final = {"IDC": "ID_Continue", "VS": "Variation_Selector"}
"""Names of properties that ``regex`` takes for those of blocks."""


@lru_cache(maxsize=8)
def _names(table: str) -> dict[str, str]:
    """The first name of each entry by all of its names."""
    entries = [entry.split("/") for entry in table.split()]
    return {name: names[0] for names in entries for name in names}


@lru_cache(maxsize=256)
def matching(one: str) -> Ranges:
    """The characters that a pattern of ``regex`` for one character matches."""
    runs = regex.finditer(f"{one}+", _every_character())
    return _without_gap((ord(run[0][0]), ord(run[0][-1])) for run in runs)


@lru_cache(maxsize=1)
def _every_character() -> str:
    """All characters in order, surrogates, which are none, left out."""
    points = array("I", range(0xD800))
    points.extend(range(0xE000, 0x110000))
    return points.tobytes().decode("utf-32-le" if sys.byteorder == "little" else "utf-32-be")


def _without_gap(runs: Iterable[tuple[int, int]]) -> Ranges:
    """Runs in which surrogates are left out again where they lie in between."""
    out: list[tuple[int, int]] = []
    for low, high in runs:
        if low < 0xD800 and high > 0xDFFF:
            out += [(low, 0xD7FF), (0xE000, high)]
        else:
            out.append((low, high))
    return tuple(out)
