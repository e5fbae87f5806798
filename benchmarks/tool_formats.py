"""Tool formats against the model families' own chat templates.

Renders an assistant's message with calls by each template, takes what stands behind the generation
prompt, and asks the grammar of ``Grammar.from_tools`` whether it is one of its texts.  The templates
are not part of this repository; the folder ``models/templates`` of llama.cpp's sources has them, and
so has the source distribution of ``llama-cpp-python``::

    python benchmarks/tool_formats.py --templates vendor/llama.cpp/models/templates
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateError
from jinja2.sandbox import SandboxedEnvironment

from grammars import Grammar, tool_format_of

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from test_tools import READ, TOOL_SETS


class Template(NamedTuple):
    """A template and what to know of it.

    Attributes:
        file: its name.
        format: that of its family.
        ends: what ends the assistant's turn, a regular expression.
        parallel: whether it takes several calls in one message.
        options: for rendering.
    """

    file: str
    format: str
    ends: str
    parallel: bool = True
    options: dict[str, Any] = {}  # noqa: RUF012


_IM = r"<\|im_end\|>\n?"
_DEEPSEEK = r"<｜end▁of▁sentence｜>"
TEMPLATES = (
    Template("meta-llama-Llama-3.1-8B-Instruct.jinja", "llama3", r"<\|eo[tm]_id\|>", False),
    Template("meta-llama-Llama-3.2-3B-Instruct.jinja", "llama3", r"<\|eo[tm]_id\|>", False),
    Template("meta-llama-Llama-3.3-70B-Instruct.jinja", "llama3", r"<\|eo[tm]_id\|>", False),
    Template("NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use.jinja", "hermes", _IM),
    Template("NousResearch-Hermes-3-Llama-3.1-8B-tool_use.jinja", "hermes", _IM),
    Template("Qwen-Qwen2.5-7B-Instruct.jinja", "hermes", _IM),
    Template("Qwen-Qwen3-0.6B.jinja", "hermes", _IM),
    Template("Qwen-QwQ-32B.jinja", "hermes", _IM),
    Template("Qwen3-Coder.jinja", "qwen3_coder", _IM),
    Template("Qwen3.5-4B.jinja", "qwen3_coder", _IM),
    Template("GLM-4.6.jinja", "glm45", r"$"),
    Template("GLM-4.7-Flash.jinja", "glm47", r"$"),
    # DeepSeek's own leaves the end of the list out behind a single call; this is the same, repaired
    Template("llama-cpp-deepseek-r1.jinja", "deepseek_v3", _DEEPSEEK),
    Template("deepseek-ai-DeepSeek-V3.1.jinja", "deepseek_v31", _DEEPSEEK),
    Template("deepseek-ai-DeepSeek-V3.2.jinja", "deepseek_v32", _DEEPSEEK),
    Template("deepseek-ai-DeepSeek-V4.jinja", "deepseek_v4", _DEEPSEEK),
    Template("mistralai-Mistral-Nemo-Instruct-2407.jinja", "mistral", r"</s>"),
    Template("Mistral-Small-3.2-24B-Instruct-2506.jinja", "mistral_args", r"</s>"),
    Template("unsloth-mistral-Devstral-Small-2507.jinja", "mistral_args", r"</s>"),
    Template("mistralai-Ministral-3-14B-Reasoning-2512.jinja", "mistral_args", r"</s>"),
    Template("Kimi-K2-Instruct.jinja", "kimi_k2", r"<\|im_end\|>"),
    Template("Kimi-K2-Thinking.jinja", "kimi_k2", r"<\|im_end\|>"),
    Template("MiniMax-M1.jinja", "minimax_m1", r"<end_of_sentence>\n?"),
    Template("MiniMax-M2.jinja", "minimax_m2", r"\[e~\[\n?"),
    Template(
        "CohereForAI-c4ai-command-r7b-12-2024-tool_use.jinja",
        "cohere",
        r"<\|END_OF_TURN_TOKEN\|>.*",
    ),
    Template(
        "CohereForAI-c4ai-command-r-plus-tool_use.jinja", "cohere_r", r"\n?<\|START_OF_TURN.*"
    ),
    Template("openai-gpt-oss-120b.jinja", "harmony", r"$", False),
)


def renderer(source: str) -> Any:
    """A template compiled as transformers does, except that lists may be changed (Kimi's template does)."""

    def tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        plain = list(value) if isinstance(value, Iterator) else value
        return json.dumps(plain, ensure_ascii=ensure_ascii, **options)

    def refuse(message: str) -> None:
        raise TemplateError(message)

    made = SandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = refuse
    made.globals["strftime_now"] = lambda _: "2025-01-01"
    return made.from_string(source)


def message(
    calls: list[Any], content: str | None, reasoning: str | None, texts: bool, number: int
) -> dict[str, Any]:
    """An assistant's message with calls, arguments as a mapping or as their JSON text."""
    listed = [
        {
            "type": "function",
            "id": f"call{number + i:05d}",
            "function": {
                "name": name,
                "arguments": json.dumps(a, ensure_ascii=False) if texts else a,
            },
        }
        for i, (name, a) in enumerate(calls)
    ]
    out: dict[str, Any] = {"role": "assistant", "content": content, "tool_calls": listed}
    if reasoning is not None:
        out |= {"reasoning_content": reasoning, "thinking": reasoning, "reasoning": reasoning}
    return out


def written(template: Any, options: dict[str, Any], answer: dict[str, Any], tools: Any) -> str:
    """What the model writes for a message: what stands behind the generation prompt."""
    user = [{"role": "user", "content": "Hi"}]
    given = {"tools": tools, "bos_token": "", "eos_token": "</s>", **options}
    prompt = template.render(messages=user, add_generation_prompt=True, **given)
    whole = template.render(messages=[*user, answer], add_generation_prompt=False, **given)
    if whole.startswith(prompt):
        return str(whole[len(prompt) :])
    bare = re.sub(r"<think>\s*(</think>)?\s*$|</think>\s*$|\s$", "", prompt)
    if whole.startswith(bare):
        return str(whole[len(bare) :])
    same = next(i for i, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b)
    return str(whole[same:])


def declared(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tools in OpenAI's form, which templates read."""
    out = []
    for tool in tools:
        inner = tool.get("function", tool)
        schema = next(
            (inner[k] for k in ("parameters", "input_schema", "inputSchema") if k in inner), None
        )
        described = {
            key: {"description": "a parameter", **value}
            for key, value in (schema or {}).get("properties", {}).items()
        }
        schema = {"type": "object", **(schema or {}), "properties": described}
        function = {
            "name": inner["name"],
            "description": "does it",
            "parameters": schema,
        }
        out.append({"type": "function", "function": function})
    return out


def main() -> None:
    """Prints a line for each template."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--templates", type=Path, required=True, help="folder of chat templates")
    parser.add_argument("--only", default="", help="a part of a template's name")
    folder, only = (args := parser.parse_args()).templates, args.only
    print(
        "| template | format | told | messages | accepted | read back |\n|---|---|---|---:|---:|---:|"
    )
    for entry in TEMPLATES:
        if only not in entry.file or not (folder / entry.file).exists():
            continue
        source = (folder / entry.file).read_text("utf-8")
        try:
            told = tool_format_of(source)
        except ValueError:
            told = "no"
        total = accepted = back = 0
        problems: list[str] = []
        for tools, schemas, calls in TOOL_SETS:
            listed = declared(tools)
            grammar = Grammar.from_tools(
                listed,
                format=entry.format,
                reasoning="optional" if entry.format != "cohere_r" else None,
            )
            several = [[call] for call in calls] + ([calls] if entry.parallel else [])
            for some in several:
                for content, reasoning in (
                    ("", None),
                    ("I will look. ", None),
                    ("", "They ask.\nSo."),
                ):
                    texts = _text_of(renderer(source), entry, some, content, reasoning, listed)
                    if texts is None or not all(name in texts for name, _ in some):
                        continue  # it refuses such a message, or leaves calls out
                    text = re.sub(f"(?:{entry.ends})$", "", texts, flags=re.DOTALL)
                    total += 1
                    if grammar.accepts(text):
                        accepted += 1
                        same = _read(entry.format, text, schemas) == [(n, a) for n, a in some]
                        back += same
                        if not same:
                            problems.append(f"not read back: {text!r}")
                    else:
                        problems.append(
                            f"{text!r}\n      {grammar.explain(text)}".replace("\n", "\n      ")
                        )
        print(
            f"| {entry.file} | {entry.format} | {told} | {total} | {accepted} | {back} |",
            flush=True,
        )
        for problem in problems[:2]:
            print("     ", problem)


def _read(form: str, text: str, schemas: Any) -> Any:
    try:
        return READ[form](text, schemas)
    except Exception as error:
        return repr(error)


def _text_of(
    template: Any, entry: Template, calls: Any, content: str, reasoning: str | None, tools: Any
) -> str | None:
    """A rendering; ``None`` where the template refuses such a message."""
    for texts in (False, True):
        for said in (content, None) if not content else (content,):
            answer = message(calls, said, reasoning, texts, 0)
            try:
                found = written(template, entry.options, answer, tools)
            except Exception:  # templates raise whatever they like
                continue
            if all(name in found for name, _ in calls):
                return found
    return None


if __name__ == "__main__":
    main()
