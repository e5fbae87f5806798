"""What pydantic's own validator functions take, by their names.

Everything that pydantic builds from a function of its own and that says something about texts is
listed here; any other function is a validator that nobody can look into.
"""

from __future__ import annotations

import functools
import zoneinfo
from collections.abc import Callable
from typing import Any, Final

from grammars.frontends.types import networks, textual
from grammars.ir import Expr, alt, text

_HARMLESS: Final = (
    "_path_schema.<locals>.path_validator",
    "_BaseUrl.__get_pydantic_core_schema__.<locals>.wrap_val",
    "_BaseMultiHostUrl.__get_pydantic_core_schema__.<locals>.wrap_val",
    "sequence_validator",
    "defaultdict_validator",
    "SecretStr",
    "SecretBytes",
    "Secret.__get_pydantic_core_schema__.<locals>.validate_secret_value",
    "Secret.__get_pydantic_core_schema__.<locals>.<lambda>",
    "deque_validator",
    "mapping_validator",
)
"""Functions that take whatever the schema inside has taken."""


def _zones() -> Expr:
    return alt(*(text(name) for name in sorted(zoneinfo.available_timezones())))


def _either(make: Callable[[int], Expr]) -> Expr:
    return alt(make(4), make(6))


_TEXTS: Final[dict[str, Callable[[], Expr]]] = {
    "ip_v4_address_validator": lambda: networks.address(4),
    "ip_v6_address_validator": lambda: networks.address(6),
    "ip_v4_interface_validator": lambda: networks.interface(4),
    "ip_v6_interface_validator": lambda: networks.interface(6),
    "ip_v4_network_validator": lambda: networks.network(4),
    "ip_v6_network_validator": lambda: networks.network(6),
    "IPvAnyAddress._validate": lambda: _either(networks.address),
    "IPvAnyInterface._validate": lambda: _either(networks.interface),
    "IPvAnyNetwork._validate": lambda: _either(networks.network),
    "pattern_either_validator": textual.python_patterns,
    "pattern_str_validator": textual.python_patterns,
    "validate_str_is_valid_iana_tz": _zones,
    "EmailStr._validate": textual.mail_addresses,
    "NameEmail._validate": textual.mail_addresses,
    "ByteSize._validate": textual.byte_sizes,
    "Color._validate": textual.colours,
}
_ADDRESS_CLASSES: Final[dict[str, Callable[[], Expr]]] = {
    "IPv4Address": lambda: networks.address(4),
    "IPv6Address": lambda: networks.address(6),
    "IPv4Interface": lambda: networks.interface(4),
    "IPv6Interface": lambda: networks.interface(6),
    "IPv4Network": lambda: networks.network(4),
    "IPv6Network": lambda: networks.network(6),
}


def _identity(function: Any) -> tuple[str, str]:
    """Module and qualified name."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__module__", "") or "", getattr(function, "__qualname__", "") or ""


def is_harmless(function: Any) -> bool:
    """Whether a function is pydantic's and refuses nothing that came so far."""
    module, name = _identity(function)
    return module.startswith("pydantic.") and name.endswith(_HARMLESS)


def texts_of(function: Any) -> Expr | None:
    """The strings that a function of pydantic's takes; ``None`` if it is not known."""
    module, name = _identity(function)
    if module == "ipaddress" and name in _ADDRESS_CLASSES:
        return _ADDRESS_CLASSES[name]()
    if not module.startswith("pydantic."):
        return None
    if name in ("EncodedBytes.decode", "EncodedStr.decode_str"):
        return _decoded(function, of_text=name == "EncodedStr.decode_str")
    make = _TEXTS.get(name)
    return None if make is None else make()


def _decoded(function: Any, *, of_text: bool) -> Expr | None:
    """What pydantic's decoders of base64 take; others are anybody's."""
    encoder = getattr(getattr(function, "__self__", None), "encoder", None)
    name = getattr(encoder, "__name__", "")
    if getattr(encoder, "__module__", "") != "pydantic.types":
        return None
    if name not in ("Base64Encoder", "Base64UrlEncoder"):
        return None
    url = name == "Base64UrlEncoder"
    return textual.base64_of_text(url=url) if of_text else textual.base64(0, None, url=url)
