"""The limits of a server: every one states its default and what it costs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from grammars.limits import Limits

QUICK_SHARE: Final = 10
"""A grammar is first given a tenth of the work: those that need more wait for each other."""


@dataclass(frozen=True)
class ServingOptions:
    """What a server allows.

    Attributes:
        api_key: what clients have to send as a bearer token; ``None``: nothing.
        max_body_bytes: of a request (default 2,000,000).
        max_grammar_bytes: of the JSON text of a schema, a grammar or all tools (default 200,000).
        max_compile_work: ``Limits.max_work`` of one grammar (default 4,000,000, some 2 to 5 s).
        max_compile_seconds: after which a grammar is given up, its process ended (default 10).
        max_compile_bytes: memory of a process that compiles, where the system can bound it (default
            4,000,000,000 of addresses; it fills a small part of them).
        max_prompt_tokens: of the prompt; 0, the default, for what the model's context leaves.
        max_n: answers to one request (default 8).
        max_tokens: most that a request may ask for, the end included (default 4,096).
        default_tokens: where it asks for nothing (default 1,024), as far as the context holds them.
        max_running: texts written at once (default 16).  Each holds its keys and values, for
            SmolLM2-135M in float32 46 KB a token.
        max_waiting: requests that wait or compile (default 128); others get 429.
        max_seconds: a request may take, waiting included (default 600).
        body_seconds: in which the body of a request has to arrive (default 30).
        prefill_tokens: of a prompt that are read between two steps of the other texts (default 128):
            more makes prompts faster, and the others slower while one is read.
        max_automata: compiled grammars kept (default 128).
        cache_bytes: of their states and masks together (default 500,000,000).
        grace_seconds: in which running requests may finish when the server is stopped (default 30).

    Raises:
        ValueError: for a number that is too small.
    """

    api_key: str | None = None
    max_body_bytes: int = 2_000_000
    max_grammar_bytes: int = 200_000
    max_compile_work: int = Limits.max_work
    max_compile_seconds: float = 10.0
    max_compile_bytes: int = 4_000_000_000
    max_prompt_tokens: int = 0
    max_n: int = 8
    max_tokens: int = 4_096
    default_tokens: int = 1_024
    max_running: int = 16
    max_waiting: int = 128
    max_seconds: float = 600.0
    body_seconds: float = 30.0
    prefill_tokens: int = 128
    max_automata: int = 128
    cache_bytes: int = 500_000_000
    grace_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.api_key == "":
            raise ValueError("api_key is empty; leave it out for a server without one")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("api_key", "max_prompt_tokens", "grace_seconds"):
                continue
            if not value > 0:
                raise ValueError(f"{field.name}={value}: must be above 0")
        if self.max_n > self.max_running:
            raise ValueError(
                f"max_n={self.max_n} answers are written at once, but max_running is {self.max_running}"
            )
