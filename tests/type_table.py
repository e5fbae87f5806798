"""Types of every kind that pydantic knows, with their constraints, for tests and a benchmark.

``TYPES``: whatever a grammar of one of them writes, pydantic must validate.
``REFUSED``: no grammar keeps what they ask, and the error says what and where.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import ipaddress
import pathlib
import re
import uuid
import zoneinfo
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Required,
    TypeVar,
)

import annotated_types as at
import pydantic
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Json,
    RootModel,
    Strict,
    StringConstraints,
    computed_field,
    field_validator,
    model_validator,
)
from pydantic import types as pt
from typing_extensions import TypeAliasType, TypedDict

T = TypeVar("T")
UTC = dt.UTC
EAST = dt.timezone(dt.timedelta(hours=2))


class Colour(enum.Enum):
    RED = "red"
    GREEN = 'gr"een'
    OTHER = 3
    HALF = 1.5
    NOTHING = None


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 20


class Word(enum.StrEnum):
    A = "a"
    B = "b"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Item(BaseModel):
    name: str
    count: Annotated[int, Field(ge=0, le=99)] = 1


class Invoice(BaseModel):
    number: Annotated[str, Field(min_length=1, max_length=8)]
    items: list[Item]
    colour: Colour | None = None
    due: dt.date
    total: Annotated[Decimal, Field(max_digits=8, decimal_places=2, ge=0)]
    paid: bool


class Forbidding(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int
    b: str | int = "x"


class Allowing(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int
    inner: Item


class AllowingInts(BaseModel):
    model_config = ConfigDict(extra="allow", populate_by_name=True)
    __pydantic_extra__: dict[str, int]
    a: str = Field(alias="A")


class Aliased(BaseModel):
    name: str = Field(alias="the name")
    age: int = Field(3, validation_alias="AGE", serialization_alias="years")


class ByName(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    name: str = Field(alias="the name")
    age: int = Field(3, alias="AGE")


class Choosy(BaseModel):
    model_config = ConfigDict(extra="forbid")
    first: str = Field(validation_alias=AliasChoices("first", AliasPath("names", 0)))
    second: int = Field(1, validation_alias=AliasPath("names", 1))
    deep: bool = Field(False, validation_alias=AliasPath("meta", "deep"))
    other: int = Field(validation_alias=AliasChoices("other", "another"))


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


class Chain(BaseModel):
    next: Optional[Chain]  # noqa: UP045 - both spellings are meant to work


class Even(BaseModel):
    odd: Odd | None


class Odd(BaseModel):
    even: Even


class Box(BaseModel, Generic[T]):
    content: T


class Strictly(BaseModel):
    model_config = ConfigDict(strict=True)
    i: int
    f: float
    s: str
    d: dt.datetime
    u: uuid.UUID
    c: Colour
    t: tuple[int, str]
    n: Decimal


class Stripped(BaseModel):
    model_config = ConfigDict(str_strip_whitespace=True, str_min_length=1, str_max_length=5)
    a: str
    b: Annotated[str, Field(pattern="^[a-c ]*$")]


class InBase64(BaseModel):
    model_config = ConfigDict(val_json_bytes="base64")
    raw: bytes
    short: Annotated[bytes, Field(min_length=2, max_length=4)]


class InHex(BaseModel):
    model_config = ConfigDict(val_json_bytes="hex")
    raw: bytes


class PythonPatterns(BaseModel):
    model_config = ConfigDict(regex_engine="python-re")
    a: Annotated[str, Field(pattern=r"^(?=a)[ab]+$")]
    b: Annotated[str, Field(pattern=r"\bx\w")]


class NoInfinity(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)
    f: float
    g: Annotated[float, Field(ge=0)]


class Computed(BaseModel):
    a: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return 2 * self.a


class Numbers(RootModel[list[int]]):
    pass


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog", "wolf"] = "dog"
    name: str


class One(BaseModel):
    k: Literal[1] = Field(alias="K")


class Two(BaseModel):
    k: Literal[2] = Field(alias="K")


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)
    a: int
    b: Any


@dataclasses.dataclass
class Point:
    x: int
    y: int
    label: str = "p"
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Partial:
    x: int
    seed: dataclasses.InitVar[int]
    made: int = dataclasses.field(init=False, default=1)


@pydantic.dataclasses.dataclass(config=ConfigDict(extra="forbid"))
class Checked:
    a: Annotated[int, Field(gt=3)]
    b: list[Point] = dataclasses.field(default_factory=list)


class Person(TypedDict):
    name: str
    age: NotRequired[int]


class Loose(TypedDict, total=False):
    a: Required[int]
    b: str


class Pair(NamedTuple):
    first: int
    second: str = "x"


UserId = NewType("UserId", int)
Names = TypeAliasType("Names", list[str])
Nested = TypeAliasType("Nested", "dict[str, Nested] | list[Nested] | int")
Bounded = TypeVar("Bounded", bound=int)
Pet = Annotated[Cat | Dog, Field(discriminator="kind")]

TYPES: dict[str, Any] = {
    # plain
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "bytes": bytes,
    "None": None,
    "Any": Any,
    "object": object,
    "Decimal": Decimal,
    "Fraction": Fraction,
    "complex": complex,
    "UUID": uuid.UUID,
    "date": dt.date,
    "datetime": dt.datetime,
    "time": dt.time,
    "timedelta": dt.timedelta,
    "Path": pathlib.Path,
    "Pattern": re.Pattern,
    "Pattern[str]": re.Pattern[str],
    "ZoneInfo": zoneinfo.ZoneInfo,
    # strict
    "StrictInt": pydantic.StrictInt,
    "StrictFloat": pydantic.StrictFloat,
    "StrictStr": pydantic.StrictStr,
    "StrictBool": pydantic.StrictBool,
    "strict datetime": Annotated[dt.datetime, Strict()],
    "strict complex": Annotated[complex, Strict()],
    "strict address": Annotated[ipaddress.IPv4Address, Strict()],
    "strict model": Strictly,
    # numbers under constraints
    "int in a range": Annotated[int, Field(ge=-5, lt=120)],
    "int with an open bound": Annotated[int, Field(gt=1000)],
    "int multiple": Annotated[int, Field(multiple_of=7, ge=0)],
    "float above": Annotated[float, Field(gt=0.5)],
    "float positive": pydantic.PositiveFloat,
    "float in a range": Annotated[float, Field(ge=-0.1, lt=0.3)],
    "float multiple": Annotated[float, Field(multiple_of=0.25)],
    "float multiple of a tenth": Annotated[float, Field(multiple_of=0.1, ge=0)],
    "float finite": pydantic.FiniteFloat,
    "no infinity": NoInfinity,
    "Decimal with digits": pydantic.condecimal(max_digits=5, decimal_places=2),
    "Decimal with 18 digits": Annotated[Decimal, Field(max_digits=18)],
    "Decimal with places": Annotated[Decimal, Field(decimal_places=2)],
    "Decimal positive": Annotated[Decimal, Field(gt=Decimal("0.1"), max_digits=6)],
    "Decimal fraction only": Annotated[Decimal, Field(max_digits=3, decimal_places=3)],
    "Decimal multiple": Annotated[Decimal, Field(multiple_of=Decimal("0.05"), ge=0)],
    "Fraction above a third": Annotated[Fraction, Field(gt=Fraction(1, 3))],
    "Interval": Annotated[int, at.Interval(gt=1, le=5)],
    "NewType": UserId,
    "TypeVar": Bounded,
    "ByteSize": pydantic.ByteSize,
    # strings under constraints
    "str of length": Annotated[str, Field(min_length=2, max_length=4)],
    "str with a pattern": Annotated[str, Field(pattern=r"^[a-z]+\d$")],
    "str with Rust's classes": Annotated[str, Field(pattern=r"^[^\d\s]\W(?i:k)\b.\D*$")],
    "str with flags": Annotated[str, Field(pattern=r"(?i)^stra[ß-ú]e[[:digit:]&&[^5]]{2,3}\z")],
    "str with a compiled pattern": Annotated[str, Field(pattern=re.compile("b$", re.I))],
    "str stripped": Annotated[str, StringConstraints(strip_whitespace=True, min_length=2)],
    "str lowered": Annotated[str, StringConstraints(to_lower=True, pattern="^[aB]+$")],
    "str of ASCII": Annotated[str, StringConstraints(ascii_only=True, max_length=6)],
    "str in a configuration": Stripped,
    "str by Python's re": PythonPatterns,
    "bytes of length": Annotated[bytes, Field(min_length=1, max_length=3)],
    "bytes in base64": InBase64,
    "bytes in hex": InHex,
    "Base64Bytes": pydantic.Base64Bytes,
    "Base64Str": pydantic.Base64Str,
    "Base64UrlBytes": pydantic.Base64UrlBytes,
    "Base64UrlStr": pydantic.Base64UrlStr,
    "SecretStr": pydantic.SecretStr,
    "SecretStr of length": Annotated[pydantic.SecretStr, Field(min_length=3)],
    "SecretBytes": pydantic.SecretBytes,
    "Secret[int]": pydantic.Secret[int],
    "UUID1": pydantic.UUID1,
    "UUID3": pydantic.UUID3,
    "UUID4": pydantic.UUID4,
    "UUID5": pydantic.UUID5,
    "UUID7": pt.UUID7,
    "UUID8": pt.UUID8,
    # dates and times under constraints
    "date after": Annotated[dt.date, Field(gt=dt.date(2024, 1, 1))],
    "date in a range": Annotated[dt.date, Field(ge=dt.date(1999, 12, 30), le=dt.date(2000, 3, 1))],
    "naive datetime": pydantic.NaiveDatetime,
    "aware datetime": pydantic.AwareDatetime,
    "datetime at an offset": Annotated[dt.datetime, at.Timezone(None)],
    "datetime from": Annotated[dt.datetime, Field(ge=dt.datetime(2020, 2, 29, 12, 30, 15, 250000))],
    "datetime before": Annotated[dt.datetime, Field(lt=dt.datetime(900, 1, 1, 0, 0, 0, 5))],
    "datetime in UTC": Annotated[
        dt.datetime,
        Field(gt=dt.datetime(2020, 1, 1, tzinfo=UTC), lt=dt.datetime(2021, 1, 1, tzinfo=UTC)),
    ],
    "datetime from, in the east": Annotated[
        dt.datetime, Field(ge=dt.datetime(2020, 1, 1, tzinfo=EAST))
    ],
    "time from": Annotated[dt.time, Field(ge=dt.time(10), le=dt.time(16, 30))],
    "time with an offset": Annotated[dt.time, Field(lt=dt.time(10, tzinfo=EAST))],
    "timedelta above": Annotated[dt.timedelta, Field(gt=dt.timedelta(hours=1))],
    "timedelta in a range": Annotated[
        dt.timedelta, Field(ge=dt.timedelta(days=-2, seconds=5), lt=dt.timedelta(seconds=90.5))
    ],
    # networks
    "IPv4Address": ipaddress.IPv4Address,
    "IPv6Address": ipaddress.IPv6Address,
    "IPv4Interface": ipaddress.IPv4Interface,
    "IPv6Interface": ipaddress.IPv6Interface,
    "IPv4Network": ipaddress.IPv4Network,
    "IPv6Network": ipaddress.IPv6Network,
    "IPvAnyAddress": pydantic.IPvAnyAddress,
    "IPvAnyInterface": pydantic.IPvAnyInterface,
    "IPvAnyNetwork": pydantic.IPvAnyNetwork,
    "HttpUrl": pydantic.HttpUrl,
    "AnyUrl": pydantic.AnyUrl,
    "AnyHttpUrl": pydantic.AnyHttpUrl,
    "FileUrl": pydantic.FileUrl,
    "FtpUrl": pydantic.FtpUrl,
    "WebsocketUrl": pydantic.WebsocketUrl,
    "PostgresDsn": pydantic.PostgresDsn,
    "RedisDsn": pydantic.RedisDsn,
    "MongoDsn": pydantic.MongoDsn,
    "KafkaDsn": pydantic.KafkaDsn,
    # listed values
    "Literal": Literal["yes", "no", 3, True, None],
    "Enum": Colour,
    "IntEnum": Level,
    "StrEnum": Word,
    "Flag": Access,
    # containers
    "list[int]": list[int],
    "list": list,
    "list with constraints": Annotated[
        list[Annotated[int, Field(ge=1, lt=5)]], Field(min_length=1, max_length=3)
    ],
    "set[int]": Annotated[set[int], Field(min_length=2, max_length=4)],
    "set": set,
    "set[str | None]": Annotated[set[str | None], Field(min_length=2)],
    "frozenset[date]": Annotated[frozenset[dt.date], at.Len(1, 3)],
    "set of models": set[Frozen],
    "set of tuples": set[tuple[int, Any]],
    "tuple[int, str]": tuple[int, str],
    "tuple[int, ...]": Annotated[tuple[int, ...], Field(min_length=1, max_length=3)],
    "tuple[()]": tuple[()],
    "NamedTuple": Pair,
    "deque": Annotated[collections.deque[int], Field(max_length=2)],
    "Sequence": Sequence[int],
    "Iterable": Iterable[int],
    "Sequence of length": Annotated[Sequence[int], Field(min_length=2, max_length=3)],
    "Json of a bounded int": Annotated[Json[int], Field(gt=3, le=9)],
    "dict[str, int]": dict[str, int],
    "dict[int, str]": Annotated[dict[int, str], Field(min_length=2, max_length=3)],
    "dict[Literal, int]": dict[Literal["a", "b"], int],
    "dict[date, int]": dict[dt.date, int],
    "dict[datetime, int]": dict[dt.datetime, int],
    "dict[UUID, int]": dict[uuid.UUID, int],
    "dict[Decimal, int]": dict[Decimal, int],
    "dict[float, int]": dict[float, int],
    "dict[bool, int]": dict[bool, int],
    "dict[IntEnum, int]": dict[Level, int],
    "dict[Enum, int]": dict[Colour, int],
    "dict[int | date, int]": dict[int | dt.date, int],
    "dict[IPv4Address, int]": dict[ipaddress.IPv4Address, int],
    "dict[pattern, int]": dict[Annotated[str, Field(pattern="^[a-z]$", min_length=1)], int],
    "Mapping": Mapping[str, float],
    "defaultdict": collections.defaultdict[str, list[int]],
    "OrderedDict": collections.OrderedDict[str, int],
    "Counter": collections.Counter[str],
    "Hashable": Hashable,
    "Json": Json,
    "Json[list[int]]": Json[list[int]],
    "Json[model]": Json[Invoice],
    "Json[tree]": list[Json[Tree]],
    # choices
    "Optional": Optional[int],  # noqa: UP045
    "union": int | str | list[bool],
    "union from left to right": Annotated[
        dt.date | dt.datetime | str, Field(union_mode="left_to_right")
    ],
    "union with a class": int | type[int],
    "discriminated union": Pet,
    "discriminated union by an alias": Annotated[One | Two, Field(discriminator="k")],
    "list of a discriminated union": list[Pet],
    # objects
    "model": Invoice,
    "list of models": list[Item],
    "forbidding model": Forbidding,
    "allowing model": Allowing,
    "allowing model with a type": AllowingInts,
    "aliases": Aliased,
    "aliases and names": ByName,
    "aliases to choose from": Choosy,
    "tree": Tree,
    "chain": Chain,
    "models that need each other": Even,
    "generic model": Box[list[int]],
    "generic model of a model": Box[Box[dt.date]],
    "root model": Numbers,
    "computed field": Computed,
    "dataclass": Point,
    "dataclass with InitVar": Partial,
    "pydantic dataclass": Checked,
    "TypedDict": Person,
    "TypedDict, not total": Loose,
    "list of TypedDict": list[Person],
    "type alias": Names,
    "recursive type alias": Nested,
}


# -- what no grammar keeps -------------------------------------------------------------------------


class Plain:
    """No type that pydantic knows."""


class Validated(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def title(cls, value: str) -> str:
        if not value.istitle():
            raise ValueError("a name begins with a capital")
        return value


class Ordered(BaseModel):
    low: int
    high: int

    @model_validator(mode="after")
    def in_order(self) -> Ordered:
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


class Meeting(BaseModel):
    people: list[Validated]
    when: pydantic.FutureDatetime


@dataclasses.dataclass
class Positive:
    x: int

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("x is negative")


class Negative(BaseModel):
    a: int = Field(validation_alias=AliasPath("list", -1))


def even(value: int) -> int:
    if value % 2:
        raise ValueError("odd")
    return value


def same(value: Any) -> Any:
    return value


def kind_of(value: Any) -> str:
    return "cat" if isinstance(value, dict) else "dog"


REFUSED: dict[str, tuple[Any, str]] = {
    "past date": (pydantic.PastDate, r"past.* now"),
    "future date": (pydantic.FutureDate, r"future.* now"),
    "past datetime": (pydantic.PastDatetime, r"past.* now"),
    "AfterValidator": (Annotated[int, AfterValidator(even)], r"validator .*even"),
    "BeforeValidator": (list[Annotated[int, BeforeValidator(same)]], r"\[\]: .*same"),
    "Predicate": (Annotated[int, at.Predicate(even)], r"validator .*even"),
    "field_validator": (Validated, r"Validated\.name: the validator .*title"),
    "model_validator": (Ordered, r"Ordered: the validator .*in_order"),
    "nested validators": (Meeting, r"Meeting\.people\[\]\.name: .*title.*; Meeting\.when: .*now"),
    "post init": (Positive, r"Positive: the method .*__post_init__"),
    "callable discriminator": (
        Annotated[
            Annotated[Cat, pydantic.Tag("cat")] | Annotated[Dog, pydantic.Tag("dog")],
            pydantic.Discriminator(kind_of),
        ],
        r"discriminator .*kind_of",
    ),
    "file path": (pydantic.FilePath, r"validate_file"),
    "import string": (pydantic.ImportString, r"import_string"),
    "class": (type[int], r"no JSON form"),
    "Callable": (Callable[[], int], r"no JSON form"),
    "unknown class": (Plain, r"no JSON form"),
    "alias from the end": (Negative, r"Negative\.a: .*end of a list"),
    "set of lists": (set[list[int]], r"\[\]: .*hash"),
    "set of models that change": (set[Item], r"hash.*Item"),
    "set of floats, two of them": (Annotated[set[float], at.Len(2)], r"min_length"),
    "keys that are tuples": (dict[tuple[int, int], int], r"keys of an object are strings"),
    "base64 of a length": (
        Annotated[pydantic.Base64Str, Field(max_length=3)],
        r"max_length=3 of what is made of the text",
    ),
    "comparison of a union": (Annotated[int | str, Field(gt=3)], r"gt=3 of what"),
    "bytes pattern": (re.Pattern[bytes], r"pattern_bytes"),
}
