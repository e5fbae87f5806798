"""Scripts: which characters each one has, as Unicode 17.0 assigns them.

Written by numbers in base 36, two for each range: the distance from the end of the range before,
and the distance from the range's start to its end.  The standard library has general categories,
but no scripts.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from grammars.ir import Ranges

# fmt: off
_SCRIPTS: Final[dict[tuple[str, ...], str]] = {
    ("Adlam", "Adlm"): "2olc 23 5 9 5 1",
    ("Ahom",): "1j40 q 3 e 5 m",
    ("Anatolian_Hieroglyphs", "Hluw"): "1s00 g6",
    ("Arabic", "Arab"): (
        "16o 4 2 5 2 d 2 2 2 v 2 9 c p 2 2z 2 x 29 1b 6p x 6 22 2 s 1bv5 dp 3 3z x f 35 4 2 3q "
        "31g u 1w 5 9 8 y 5 181t 3 2 q 2 1 2 0 3 0 2 9 2 3 2 0 2 0 7 0 5 0 2 0 2 0 2 2 2 1 2 0 3 "
        "0 2 0 2 0 2 0 2 0 2 1 2 0 3 3 2 6 2 3 2 3 2 0 2 9 2 g 6 2 2 4 2 g 1h 1"
    ),
    ("Armenian", "Armn"): "10x 11 3 1d 3 2 1chw 4",
    ("Avestan", "Avst"): "1gqo 1h 4 6",
    ("Balinese", "Bali"): "5c0 24 2 1d",
    ("Bamum", "Bamu"): "www 2f 124p fs",
    ("Bassa_Vah", "Bass"): "1zo0 t 3 5",
    ("Batak", "Batk"): "5hc 1f 9 3",
    ("Bengali", "Beng"): "1vk 3 2 7 3 1 3 l 2 6 2 0 4 3 3 8 3 1 3 3 9 0 5 1 2 4 3 o",
    ("Beria_Erfe", "Berf"): "20f4 o 3 o",
    ("Bhaiksuki", "Bhks"): "1k3k 8 2 18 2 d b s",
    ("Bopomofo", "Bopo"): "kq 1 93u 16 35 v",
    ("Brahmi", "Brah"): "1hq8 25 5 z a 0",
    ("Braille", "Brai"): "7wg 73",
    ("Buginese", "Bugi"): "54w r 3 1",
    ("Buhid", "Buhd"): "4lc j",
    ("Canadian_Aboriginal", "Cans"): "3y8 hr fl 1x 1ewr f",
    ("Carian", "Cari"): "1f34 1c",
    ("Caucasian_Albanian", "Aghb"): "1flc 1f c 0",
    ("Chakma", "Cakm"): "1hxc 1g 2 h",
    ("Cham",): "xkw 1i a d 3 9 3 3",
    ("Cherokee", "Cher"): "3vk 2d 3 5 twz 27",
    ("Chorasmian", "Chrs"): "1ho0 r",
    ("Common", "Zyyy"): (
        "0 1s r 5 r 1a 2 e 2 4 o 0 w 0 ci 12 6 4 3 j 39 0 a 0 7 0 2 0 hq 0 7 0 f 0 4 0 x 0 4d 0 "
        "ed 0 3m 1 yi 0 ba 3 83 0 168 2 20 1 5o 1 2 0 y6 0 e 0 8 3 2 5 2 2 3 0 li b 3 2e 2 a 4 a "
        "2 e i x 1r 11 2 2 3 5 2 q 2 g 16 2 5 ih n a m pr 75 hf 3 3t e9 2l b7 k 2 0 2 o g 7 5 3 "
        "2k 1 4 0 2j 1 44 f x 11 a 0 1d 1r w 28 1c 0 2h 4n 535 1r hkx x 2v 2 4m 9 6t 0 4h 0 b0 0 "
        "f 1 g5v 1 5t 9 n y 2 i 2 3 44 0 2 v r 5 r a b 0 1a 1 1t 6 2 6 b 4 77 2 5 18 4 8 29 c 1g "
        "18 6d q 10o5 3 319 70 4 c3 7 m g g 2o 37 1p 6t b 12 3 1p 4 g 9 1 8 t 5 1o 5y j d j d 2e "
        "a o 3s 2c 2 1y 2 1 3 0 3 1 3 3 2 b 2 0 2 6 2 1s 2 3 3 7 2 6 2 r 2 3 2 4 2 0 4 6 2 9f 3 "
        "83 3 1d 41e 1v 25 1o jn 17 5 2r d e 3 e 2 e 2 10 b 4t 1l p 2 1 e 17 5 8 8 1 f 5 4b rc 4 "
        "g 4 c 4 61 7 b 5 0 g b 5 1j 9 9 7 13 9 t 3 b 5 1 f 8 14 9j 9 d 3 c 4 a 4 1k 2 0 5 f 3 b "
        "5 9 8 42 2 2u gvlz 0 v 2n"
    ),
    ("Coptic", "Copt", "Qaac"): "rm d 80h 37 6 6",
    ("Cuneiform", "Xsux"): "1kw0 pl 2v 32 2 4 c 5f",
    ("Cypriot", "Cprt"): "1g5c 5 3 0 2 17 2 1 4 0 3 0",
    ("Cypro_Minoan", "Cpmn"): "1nyo 2q",
    ("Cyrillic", "Cyrl"): "sg 3o 3 4o 4lt a 4h 0 25 0 38o v nr5 2n han 1 18n5 1p y 0",
    ("Deseret", "Dsrt"): "1fcw 27",
    ("Devanagari", "Deva"): "1s0 28 5 e 3 p vhd v mip 9",
    ("Dives_Akuru", "Diak"): "1ji8 6 3 0 3 7 2 1 2 t 2 1 3 b a 9",
    ("Dogra", "Dogr"): "1jb4 1n",
    ("Duployan", "Dupl"): "2fpc 2y 6 c 4 8 8 9 3 3",
    ("Egyptian_Hieroglyphs", "Egyp"): "1o1s ut b 32y",
    ("Elbasan", "Elba"): "1fk0 13",
    ("Elymaic", "Elym"): "1hpc m",
    ("Ethiopic", "Ethi"): (
        "3k0 20 2 3 3 6 2 0 2 3 3 14 2 3 3 w 2 3 3 6 2 0 2 3 3 e 2 1k 2 3 3 1u 3 v 4 p 547 m a 6 "
        "2 6 2 6 2 6 2 6 2 6 2 6 2 6 opv 5 3 5 3 5 a 6 2 6 1qk2 6 2 3 2 1 2 e"
    ),
    ("Garay", "Gara"): "1h6o 11 4 s 9 1",
    ("Georgian", "Geor"): "3a8 11 2 0 6 0 3 16 2 3 2a9 16 3 2 37l 11 2 0 6 0",
    ("Glagolitic", "Glag"): "8ow 2n 2e1t 6 2 g 3 6 2 1 2 4",
    ("Gothic", "Goth"): "1f74 q",
    ("Grantha", "Gran"): "1ibk 3 2 7 3 1 3 l 2 6 2 1 2 4 3 8 3 1 3 2 3 0 7 0 6 6 3 6 4 4",
    ("Greek", "Grek"): (
        "og 3 2 2 3 3 2 0 5 0 2 0 2 2 2 0 2 j 2 1q f f 4yv 4 1f 4 5 4 2d 0 8x l 3 5 3 11 3 5 3 7 "
        "2 0 2 0 2 0 2 u 3 1g 2 e 2 d 3 5 2 i 3 2 2 8 88 0 rb3 0 gyj 26 i 0 155s 1x"
    ),
    ("Gujarati", "Gujr"): "22p 2 2 8 2 2 2 l 2 6 2 1 2 4 3 9 2 2 2 2 3 0 g 3 3 b 8 6",
    ("Gunjala_Gondi", "Gong"): "1kdc 5 2 1 2 10 2 1 2 5 8 9",
    ("Gurmukhi", "Guru"): "1z5 2 2 5 5 1 3 l 2 6 2 1 2 1 2 1 3 0 2 4 5 1 3 2 4 0 8 3 2 0 8 g",
    ("Gurung_Khema", "Gukh"): "1xq8 1l",
    ("Han", "Hani"): (
        "96o p 2 2g d 5x 1c 0 2 0 q 8 f 3 qt 533 1t g73 hkx a5 3 2x n49 1 d 6 sga wyn x 3dp 3 4gd "
        "3 5rk g h9 1wj f1 15v 3t6 6 6jt"
    ),
    ("Hangul", "Hang"): "3cw 73 5yn 1 76 2l 36 u 1u u nhe s hw 8mb d m 5 1c 7tx u 4 5 3 5 3 5 3 2",
    ("Hanifi_Rohingya", "Rohg"): "1h4w 13 9 9",
    ("Hanunoo", "Hano"): "4kg k",
    ("Hatran", "Hatr"): "1gbk i 2 1 6 4",
    ("Hebrew", "Hebr"): "13l 1i 9 q 5 5 1cfd p 2 4 2 0 2 1 2 1 2 9",
    ("Hiragana", "Hira"): "9j5 2d 7 2 23qa 7y j 0 u 2 cry 0",
    ("Imperial_Aramaic", "Armi"): "1g74 l 2 8",
    ("Inherited", "Zinh", "Qaai"): (
        "lc 33 7q 1 cl a r 0 kh 3 3fg 19 3 b dh 2 2 c 2 6 5 0 7 0 4 1 5j 1r el 1 5f w 30a 3 30 1 "
        "14km f h d r4 0 6b 0 38b 0 1139 19 3 m f5 2 i 7 3 6 v 3 h45v 6n"
    ),
    ("Inscriptional_Pahlavi", "Phli"): "1gtc i 6 7",
    ("Inscriptional_Parthian", "Prti"): "1gsg l 3 7",
    ("Javanese", "Java"): "xhc 25 3 9 5 1",
    ("Kaithi", "Kthi"): "1hts 1u b 0",
    ("Kannada", "Knda"): "2gw c 2 2 2 m 2 9 2 4 3 8 2 2 2 3 8 1 6 2 2 3 3 9 2 2",
    ("Katakana", "Kana"): "9lt 2h 3 2 6p f 5t 1a 2 2f 14b3 9 2 18 ytv 3 2 6 2 1 2 0 80 2 1f 0 f 3",
    ("Kawi",): "1kow g 2 14 4 s",
    ("Kayah_Li", "Kali"): "xds 19 2 0",
    ("Kharoshthi", "Khar"): "1gjk 3 2 1 6 7 2 2 2 s 3 2 5 9 8 8",
    ("Khitan_Small_Script", "Kits"): "20o4 0 5cs d1 16 0",
    ("Khmer", "Khmr"): "4n4 2l 3 9 7 9 dj v",
    ("Khojki", "Khoj"): "1i4g h 2 1a",
    ("Khudawadi", "Sind"): "1i9c 1m 6 9",
    ("Kirat_Rai", "Krai"): "205c 1l",
    ("Lao", "Laoo"): "2v5 1 2 0 2 4 2 n 2 0 2 m 3 4 2 0 2 6 2 9 3 3",
    ("Latin", "Latn"): (
        "1t p 7 p 1c 0 g 0 6 m 2 u 2 cg 14 4 55o 11 7 1c 6 3 6 c 2 1x 1u 73 aa 0 e 0 h c 3y 1 7 0 "
        "s 0 i 14 254 v o83 2t 4 29 l e mp 16 2 8 2 3 fpz 6 t7 p 7 p 1ly 5 2 15 2 8 16iu u 7 5"
    ),
    ("Lepcha", "Lepc"): "5j4 1j 4 e 4 2",
    ("Limbu", "Limb"): "4xs u 2 b 5 b 5 0 4 b",
    ("Linear_A", "Lina"): "1fr4 8m a l b 7",
    ("Linear_B", "Linb"): "1ekg b 2 p 2 i 2 1 2 e 3 d z 3e",
    ("Lisu",): "wk0 1b o8h 0",
    ("Lycian", "Lyci"): "1f28 s",
    ("Lydian", "Lydi"): "1gdc p 6 0",
    ("Mahajani", "Mahj"): "1hzk 12",
    ("Makasar", "Maka"): "1ko0 o",
    ("Malayalam", "Mlym"): "2kg c 2 2 2 1e 2 2 2 5 5 f 3 p",
    ("Mandaic", "Mand"): "1mo r 3 0",
    ("Manichaean", "Mani"): "1gow 12 5 b",
    ("Marchen", "Marc"): "1k6o v 3 l 2 d",
    ("Masaram_Gondi", "Gonm"): "1kao 6 2 1 2 17 4 0 2 1 2 8 9 9",
    ("Medefaidrin", "Medf"): "20cg 2i",
    ("Meetei_Mayek", "Mtei"): "xr4 m 5m 19 3 9",
    ("Mende_Kikakui", "Mend"): "2oe8 5g 3 f",
    ("Meroitic_Cursive", "Merc"): "1ggw n 5 j 3 19",
    ("Meroitic_Hieroglyphs", "Mero"): "1gg0 v",
    ("Miao", "Plrd"): "20hs 22 5 1k 8 g",
    ("Modi",): "1iww 1w c 9",
    ("Mongolian", "Mong"): "4qo 1 3 0 2 j 7 2g 8 16 1e46 c",
    ("Mro", "Mroo"): "1zk0 u 2 9 5 1",
    ("Multani", "Mult"): "1i80 6 2 0 2 3 2 e 2 a",
    ("Myanmar", "Mymr"): "35s 4f u9t u 2q v le9 j",
    ("Nabataean", "Nbat"): "1g8w u 9 8",
    ("Nag_Mundari", "Nagm"): "2nrk 15",
    ("Nandinagari", "Nand"): "1jmo 7 3 19 3 a",
    ("New_Tai_Lue", "Talu"): "51c 17 5 p 7 a 4 1",
    ("Newa",): "1iio 2j 2 4",
    ("Nko", "Nkoo"): "1j4 1m 3 2",
    ("Nushu", "Nshu"): "20o1 0 cy7 az",
    ("Nyiakeng_Puachue_Hmong", "Hmnp"): "2n0g 18 4 d 3 9 5 1",
    ("Ogham", "Ogam"): "4g0 s",
    ("Ol_Chiki", "Olck"): "5lc 1b",
    ("Ol_Onal", "Onao"): "2nyo 16 5 0",
    ("Old_Hungarian", "Hung"): "1h1c 1e e 1e 8 5",
    ("Old_Italic", "Ital"): "1f5s z a 2",
    ("Old_North_Arabian", "Narb"): "1gn4 v",
    ("Old_Permic", "Perm"): "1f80 16",
    ("Old_Persian", "Xpeo"): "1fa8 z 5 d",
    ("Old_Sogdian", "Sogo"): "1hj4 13",
    ("Old_South_Arabian", "Sarb"): "1gm8 v",
    ("Old_Turkic", "Orkh"): "1gxs 20",
    ("Old_Uyghur", "Ougr"): "1hm8 p",
    ("Oriya", "Orya"): "269 2 2 7 3 1 3 l 2 6 2 1 2 4 3 8 3 1 3 2 8 2 5 1 2 4 3 h",
    ("Osage", "Osge"): "1fhs z 5 z",
    ("Osmanya", "Osma"): "1fgg t 3 9",
    ("Pahawh_Hmong", "Hmng"): "1zpc 1x b 9 2 6 2 k 6 i",
    ("Palmyrene", "Palm"): "1g80 v",
    ("Pau_Cin_Hau", "Pauc"): "1juo 1k",
    ("Phags_Pa", "Phag"): "x8g 1j",
    ("Phoenician", "Phnx"): "1gcg r 4 0",
    ("Psalter_Pahlavi", "Phlp"): "1gu8 h 8 3 d 6",
    ("Rejang", "Rjng"): "xf4 z c 0",
    ("Runic", "Runr"): "4gw 22 4 a",
    ("Samaritan", "Samr"): "1kw 19 3 e",
    ("Saurashtra", "Saur"): "xa8 1x 9 b",
    ("Sharada", "Shrd"): "1i0w 2n 1vl 7",
    ("Shavian", "Shaw"): "1ff4 1b",
    ("Siddham", "Sidd"): "1itc 1h 3 11",
    ("Sidetic", "Sidt"): "1ge8 p",
    ("SignWriting", "Sgnw"): "2l8g i3 g 4 2 e",
    ("Sinhala", "Sinh"): "2o1 2 2 h 4 n 2 8 2 0 3 6 4 0 5 5 2 0 2 7 7 9 3 2 1fcd j",
    ("Sogdian", "Sogd"): "1hkg 15",
    ("Sora_Sompeng", "Sora"): "1hw0 o 8 9",
    ("Soyombo", "Soyo"): "1jrk 2a",
    ("Sundanese", "Sund"): "5fk 1r 75 7",
    ("Sunuwar", "Sunu"): "1k1s x f 9",
    ("Syloti_Nagri", "Sylo"): "x6o 18",
    ("Syriac", "Syrc"): "1ds d 2 1n 3 2 7l a",
    ("Tagalog", "Tglg"): "4jk l a 0",
    ("Tagbanwa", "Tagb"): "4m8 c 2 2 2 1",
    ("Tai_Le", "Tale"): "500 t 3 4",
    ("Tai_Tham", "Lana"): "55s 1q 2 s 3 a 7 9 7 d",
    ("Tai_Viet", "Tavt"): "xog 1u p 4",
    ("Tai_Yo", "Tayo"): "2o5c u 2 l 9 1",
    ("Takri", "Takr"): "1j0g 1l 7 9",
    ("Tamil", "Taml"): (
        "29u 1 2 5 4 2 2 3 4 1 2 0 2 1 4 1 4 2 4 b 5 4 4 2 2 3 3 0 7 0 f k 1ih2 1d e 0"
    ),
    ("Tangsa", "Tnsa"): "1zlc 26 2 9",
    ("Tangut", "Tang"): "20o0 0 w 5bz e9 u 2q 36",
    ("Telugu", "Telu"): "2dc c 2 2 2 m 2 f 3 8 2 2 2 3 8 1 2 2 2 1 3 3 3 9 8 8",
    ("Thaana", "Thaa"): "1hc 1d",
    ("Thai",): "2rl 1l 6 r",
    ("Tibetan", "Tibt"): "2yo 1z 2 z 5 12 2 z 2 e 2 6 5 1",
    ("Tifinagh", "Tfng"): "8xc 1j 8 1 f 0",
    ("Tirhuta", "Tirh"): "1im8 1z 9 9",
    ("Todhri", "Todr"): "1fpc 1f",
    ("Tolong_Siki", "Tols"): "1kfk 17 5 9",
    ("Toto",): "2nbk u",
    ("Tulu_Tigalari", "Tutg"): "1if4 9 2 0 3 0 2 11 2 9 2 0 3 0 2 3 2 9 2 1 9 1",
    ("Ugaritic", "Ugar"): "1f9c t 2 0",
    ("Vai", "Vaii"): "wlc 8b",
    ("Vithkuqi", "Vith"): "1fn4 a 2 e 2 6 2 1 2 a 2 e 2 6 2 1",
    ("Wancho", "Wcho"): "2ncw 1l 6 0",
    ("Warang_Citi", "Wara"): "1jfk 2a d 0",
    ("Yezidi", "Yezi"): "1hfk 15 2 2 3 1",
    ("Yi", "Yiii"): "vls wc 4 1i",
    ("Zanabazar_Square", "Zanb"): "1jpc 1z",
}
# fmt: on


@lru_cache(maxsize=1)
def _by_name() -> dict[str, str]:
    return {name: written for names, written in _SCRIPTS.items() for name in names}


def script_ranges(name: str) -> Ranges | None:
    """The characters of a script, by its name or its four letters; ``None`` if there is none."""
    written = _by_name().get(name)
    if written is None:
        return None
    numbers = iter([int(x, 36) for x in written.split()])
    out: list[tuple[int, int]] = []
    at = 0
    for gap, length in zip(numbers, numbers, strict=True):
        start, at = at + gap, at + gap + length
        out.append((start, at))
    return tuple(out)
