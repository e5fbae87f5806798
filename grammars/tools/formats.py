"""The table of tool formats, and the way from tools to a grammar."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from grammars.frontends.pieces import Pieces
from grammars.ir import Expr, GrammarIR
from grammars.limits import Limits
from grammars.tools import (
    cohere,
    deepseek,
    glm,
    harmony,
    hermes,
    kimi,
    llama,
    minimax,
    mistral,
    plain,
    qwen,
)
from grammars.tools.definitions import ToolChoice, ToolLike, choose, read_tools
from grammars.tools.layout import Layout, Reasoning


@dataclass(frozen=True)
class ToolFormat:
    """How a model family writes calls of tools.

    Attributes:
        name: for ``Grammar.from_tools(format=)``.
        models: which models write it.
        markers: the markers that a tokenizer may have as tokens.
        special: those that are special tokens unless the caller says otherwise.
        build: makes the grammar.
    """

    name: str
    models: str
    markers: tuple[str, ...]
    special: frozenset[str]
    build: Callable[[Layout], Expr]


_ALL: Final = (
    ToolFormat("llama3", "Llama 3.1, 3.2, 3.3", llama.MARKERS, llama.SPECIAL, llama.llama),
    ToolFormat(
        "hermes",
        "Hermes 2 Pro and 3, Qwen 2.5, Qwen 3",
        hermes.MARKERS,
        hermes.SPECIAL,
        hermes.hermes,
    ),
    ToolFormat("qwen3_coder", "Qwen3-Coder, Qwen 3.5", qwen.MARKERS, qwen.SPECIAL, qwen.qwen_coder),
    ToolFormat("glm45", "GLM 4.5, 4.6", glm.MARKERS, glm.SPECIAL, glm.glm_lines),
    ToolFormat("glm47", "GLM 4.7", glm.MARKERS, glm.SPECIAL, glm.glm_dense),
    ToolFormat(
        "deepseek_v3",
        "DeepSeek R1, V3",
        deepseek.MARKERS,
        deepseek.SPECIAL,
        deepseek.deepseek_v3,
    ),
    ToolFormat(
        "deepseek_v31", "DeepSeek V3.1", deepseek.MARKERS, deepseek.SPECIAL, deepseek.deepseek_v31
    ),
    ToolFormat(
        "deepseek_v32",
        "DeepSeek V3.2",
        deepseek.TEXT_MARKERS,
        deepseek.TEXTUAL,
        deepseek.deepseek_v32,
    ),
    ToolFormat(
        "deepseek_v4", "DeepSeek V4", deepseek.TEXT_MARKERS, deepseek.TEXTUAL, deepseek.deepseek_v4
    ),
    ToolFormat(
        "mistral", "Mistral, tokenizers up to v7", mistral.MARKERS, mistral.SPECIAL, mistral.mistral
    ),
    ToolFormat(
        "mistral_args",
        "Mistral, tokenizers from v11 on",
        mistral.MARKERS,
        mistral.SPECIAL,
        mistral.mistral_args,
    ),
    ToolFormat("kimi_k2", "Kimi K2", kimi.MARKERS, kimi.SPECIAL, kimi.kimi),
    ToolFormat("minimax_m1", "MiniMax M1", minimax.MARKERS, minimax.SPECIAL, minimax.minimax_m1),
    ToolFormat("minimax_m2", "MiniMax M2", minimax.MARKERS, minimax.SPECIAL, minimax.minimax_m2),
    ToolFormat("cohere", "Command R7B, Command A", cohere.MARKERS, cohere.SPECIAL, cohere.cohere),
    ToolFormat("cohere_r", "Command R, R+", cohere.TEXT_MARKERS, cohere.TEXTUAL, cohere.cohere_r),
    ToolFormat("harmony", "gpt-oss", harmony.MARKERS, harmony.SPECIAL, harmony.harmony),
    ToolFormat("json", "any other", plain.MARKERS, plain.SPECIAL, plain.plain),
)
FORMATS: Final[Mapping[str, ToolFormat]] = MappingProxyType({f.name: f for f in _ALL})
"""All formats, by name."""

_REASONING: Final[Mapping[object, Reasoning]] = MappingProxyType(
    {None: "never", False: "never", True: "always", "optional": "optional"}
)


def tools_to_ir(
    tools: Iterable[ToolLike],
    format: str,
    tool_choice: ToolChoice | None,
    reasoning: bool | str | None,
    parallel: bool,
    special: Collection[str] | None,
    limits: Limits,
) -> GrammarIR:
    """See ``Grammar.from_tools``."""
    chosen = FORMATS.get(format)
    if chosen is None:
        raise ValueError(f"format={format!r} is no tool format; there are {', '.join(FORMATS)}")
    if reasoning not in _REASONING:
        raise ValueError(f"reasoning={reasoning!r}: must be True, False, None or 'optional'")
    mode, allowed = choose(read_tools(tools), tool_choice)
    tokens = chosen.special if special is None else frozenset(special) & set(chosen.markers)
    pieces = Pieces()
    layout = Layout(allowed, mode, _REASONING[reasoning], tokens, parallel, limits, pieces)
    return pieces.whole(chosen.build(layout))
