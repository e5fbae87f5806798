"""A trace as a page: one self-contained HTML file, a row for each token."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from grammars import Grammar
from grammars.explain import Explanation
from samplers.tracing import Step, open_rules

_HEAD: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark;
  --fg: light-dark(#1b1f24, #e4e7eb); --bg: light-dark(#fff, #15181c); --dim: light-dark(#59636e, #9aa4af);
  --line: light-dark(#d5dae0, #343a42); --good: light-dark(#d8f3dc, #173d24);
  --bad: light-dark(#ffd9d6, #5c1a1a); --end: light-dark(#ddeaff, #1b3358); }}
body {{ margin: 1.5rem auto; padding: 0 1rem; max-width: 75rem; font: 16px/1.45 system-ui, sans-serif;
  color: var(--fg); background: var(--bg); }}
h1 {{ font-size: 1.25rem; overflow-wrap: anywhere; }}
code, pre, td.code {{ font-family: ui-monospace, Menlo, Consolas, monospace; font-size: .9em; }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; padding: .75rem; border: 1px solid var(--line);
  border-radius: 6px; }}
pre .good, tr.good td.token {{ background: var(--good); }}
pre .good + .good {{ border-left: 1px solid var(--dim); }}
pre .bad, tr.bad td.token {{ background: var(--bad); text-decoration: underline wavy; }}
tr.end td.token {{ background: var(--end); }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }}
th {{ position: sticky; top: 0; background: var(--bg); font-size: .85em; color: var(--dim); }}
td.number, th.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
td.code {{ white-space: pre-wrap; overflow-wrap: anywhere; min-width: 5rem; }}
.dim {{ color: var(--dim); }}
</style>
</head>
<body>
"""

_COLUMNS: Final = (
    *(("number", ""), ("", "token"), ("number", "id"), ("number", "allowed"), ("", "may end")),
    *(("", "forced"), ("number", "to the end"), ("", "open rules")),
)
"""Classes and names."""


def page_of(grammar: Grammar, data: bytes, steps: Sequence[Step], name: str, model: str) -> str:
    """The page of a trace, with the rules that are open at each token.

    Explaining each beginning of the text anew takes time that grows with the square of its length, about
    half a second for a thousand tokens.

    Args:
        grammar: what the steps follow.
        data: the text that was traced.
        steps: as :func:`samplers.tracing.steps_of` gives them.
        name: the grammar's name.
        model: whose tokens they are.
    """
    verdict = grammar.explain(data)
    count = sum(step.token_id >= 0 for step in steps)
    title = f"Trace of {name}"
    return "".join(
        (
            _HEAD.format(title=escape(title)),
            f"<h1>{escape(title)}</h1>\n",
            f'<p class="dim">{count:,} tokens of {escape(model)}</p>\n',
            f"<p><strong>{'Accepted.' if verdict.accepted else 'Not accepted.'}</strong></p>\n",
            "" if verdict.accepted else f'<pre class="verdict">{escape(str(verdict))}</pre>\n',
            f'<pre class="text">{_text_of(data, steps, verdict.offset)}</pre>\n',
            '<div class="wide"><table>\n<thead><tr>',
            *(f'<th scope="col" class="{kind}">{column}</th>' for kind, column in _COLUMNS),
            "</tr></thead>\n<tbody>\n",
            *_rows_of(grammar, data, steps, verdict),
            "</tbody></table></div>\n</body>\n</html>\n",
        )
    )


def _text_of(data: bytes, steps: Sequence[Step], offset: int) -> str:
    """The text with a mark around each token, and around the first character that cannot be."""
    read = [s for s in steps if s.token_id >= 0 and s.allowed_here]
    cuts = [(_character(data, s.begin), _character(data, s.end)) for s in read]
    out = [_mark("good", data[begin:end]) for begin, end in cuts]
    last = steps[-1]
    if last.allowed_here:
        return "".join(out)
    if last.token_id < 0:
        return "".join((*out, '<span class="bad" title="the text ends too early">&nbsp;</span>'))
    bad = _character(data, max(offset, last.begin))
    end = bad + 1
    while end < len(data) and data[end] & 0xC0 == 0x80:
        end += 1
    rest = f'<span class="dim" title="not read">{_shown(data[end:])}</span>'
    return "".join(
        (
            *out,
            _mark("good", data[_character(data, last.begin) : bad]),
            _mark("bad", data[bad:end]),
            rest,
        )
    )


def _character(data: bytes, offset: int) -> int:
    """Where the character begins that an offset is in; tokens may end within one."""
    start = offset
    while 0 < start < len(data) and offset - start < 3 and data[start] & 0xC0 == 0x80:
        start -= 1
    return start if start < len(data) and data[start] >= 0xC0 else offset


def _mark(kind: str, data: bytes) -> str:
    return f'<span class="{kind}">{_shown(data)}</span>' if data else ""


def _shown(data: bytes) -> str:
    return escape(data.decode("utf-8", "replace"))


def _rows_of(
    grammar: Grammar, data: bytes, steps: Sequence[Step], verdict: Explanation
) -> list[str]:
    return [_row_of(grammar, data, n, step, verdict) for n, step in enumerate(steps, 1)]


def _row_of(grammar: Grammar, data: bytes, n: int, step: Step, verdict: Explanation) -> str:
    is_end = step.token_id < 0
    kind = "bad" if not step.allowed_here else "end" if is_end else "good"
    rules = escape(" > ".join(open_rules(grammar, data[: step.begin])))
    if not step.allowed_here and verdict.expected:
        place = f"expected in line {verdict.line}, column {verdict.column}:"
        expected = escape(", ".join(verdict.expected))
        rules += f'<br><span class="dim">{place}</span> {expected}'
    cells = (
        ("number dim", "" if is_end else f"{n:,}"),
        ("code token", '<span class="dim">(end)</span>' if is_end else escape(step.token)),
        ("number", "" if is_end else str(step.token_id)),
        ("number", f"{step.allowed:,}"),
        ("", "yes" if step.may_end else ""),
        ("code", escape(step.forced)),
        ("number", str(step.to_end)),
        ("code", rules),
    )
    made = "".join(f'<td class="{name}">{value}</td>' for name, value in cells)
    return f'<tr class="{kind}">{made}</tr>\n'
