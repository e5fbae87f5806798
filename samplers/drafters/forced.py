"""What the grammar forces, and how the text so far fills in the blanks.

Strings are forced far more often than tokens: after ``{"na`` of a schema the bytes ``me":`` are
certain, and yet dozens of tokens are allowed.  So the forced bytes are tokenized with the end of the
text before them and offered to the model; it may prefer another spelling.

Where only blanks leave a choice (``"a":1`` or ``"a": 1``), the text goes on in its own style: the
blanks it wrote after the same sign before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from constrain.automaton import TokenAutomaton
from samplers.drafters.base import Context, Drafter
from samplers.drafters.text import WHITESPACE, Options, Speller
from samplers.speculative.tree import ROOT

_LONGEST: Final = 96
"""Bytes guessed at most."""
_LEAVES: Final = 3
"""Drafts of others that are continued."""
_FORCED, _STYLED, _SPANNED = 0.95, 0.8, 0.4
_USUAL: Final = {b"": b"", b":": b" ", b",": b" ", b"{": b"", b"[": b""}


@dataclass
class Style:
    """Blanks after signs, read off the text of a row.

    Attributes:
        blanks: (sign, depth) -> the blanks that followed it last; before closing brackets, those
            in front of it.
        seen: bytes of text read so far.
    """

    blanks: dict[tuple[int, int], bytes] = field(default_factory=dict)
    seen: int = 0
    depth: int = 0
    quoted: bool = False
    escaped: bool = False
    sign: int = 0
    run: bytearray = field(default_factory=bytearray)

    def read(self, text: bytes) -> None:
        """Goes on reading where it stopped."""
        for byte in text[self.seen :]:
            self._read(byte)
        self.seen = len(text)

    def _read(self, byte: int) -> None:
        if self.quoted:
            if self.escaped:
                self.escaped = False
            elif byte == 0x5C:
                self.escaped = True
            elif byte == 0x22:
                self.quoted = False
                self.sign, self.run = byte, bytearray()
            return
        if byte in WHITESPACE:
            self.run.append(byte)
            return
        if byte in b"}]":
            self.blanks[byte, self.depth] = bytes(self.run)
        elif self.sign in b"{[,:":
            self.blanks[self.sign, self.depth] = bytes(self.run)
        self.quoted = byte == 0x22
        self.depth += (byte in b"{[") - (byte in b"}]")
        self.sign, self.run = byte, bytearray()

    def between(self, sign: int, following: int, depth: int) -> bytes:
        """The blanks that are probably between two signs outside strings.

        Args:
            sign: the last byte that is no blank.
            following: the one that comes next.
            depth: brackets open between them.
        """
        if following in b"}]":
            return self._after(following, depth, depth - 1)
        if sign in b"{[,:" and sign:
            return self._after(sign, depth, depth)
        return b""

    def _after(self, sign: int, depth: int, levels: int) -> bytes:
        known = self.blanks.get((sign, depth))
        if known is not None:
            return known
        unit = self._indent()
        if unit is not None and sign in b"{[,}]":
            return b"\n" + unit * levels
        flat = [b for (s, _), b in self.blanks.items() if s == sign]
        if flat:
            return flat[-1]
        compact = any(s == ord(":") and not blanks for (s, _), blanks in self.blanks.items())
        return b"" if compact else _USUAL.get(bytes([sign]), b"")

    def _indent(self) -> bytes | None:
        """The indentation of one level, if lines are broken behind commas and brackets."""
        for (sign, depth), blanks in self.blanks.items():
            if sign in b"{[," and depth > 0 and blanks.startswith(b"\n"):
                return blanks[1 : 1 + (len(blanks) - 1) // depth]
        return None


class Forced(Drafter):
    """Forced bytes, with blanks in the style of the text; also behind the drafts of others."""

    name = "Forced"

    def __init__(self) -> None:
        self._styles: dict[int, Style] = {}
        self._options = Options()
        self._speller = Speller()

    def begin(self, context: Context) -> None:
        """A new text has shown no style yet: that of the text before it is kept as a guess."""
        old = self._styles.get(context.row)
        self._styles[context.row] = Style(dict(old.blanks) if old else {})

    def reset(self) -> None:
        """Forgets styles."""
        self._styles.clear()

    def propose(self, context: Context) -> None:
        """Behind the root, and behind a few drafts that nothing follows yet."""
        automaton = context.target.automaton
        if automaton is None:
            return
        tree = context.tree
        leaves = [i for i in range(len(tree)) if not tree.children(i)][:_LEAVES]
        for node in [ROOT, *leaves]:
            state = tree.state(node)
            if state is None or context.target.is_finished(state):
                continue
            self._continue(context, automaton, node)

    def _continue(self, context: Context, automaton: TokenAutomaton, node: int) -> None:
        vocabulary = automaton.vocabulary
        drafted = context.tree.tokens_to(node)
        text = vocabulary.decode([*context.new_tokens, *drafted])
        style = self._style(context.row, text, bool(drafted))
        state = context.target.grammar_state(context.tree.state(node))
        guess, certain = self._guess(automaton, state, style)
        if not guess:
            return
        before = [*context.tokens[-16:], *drafted]
        at, written = node, 0
        tokens = self._speller.tokens(context, before, guess)
        for i, token in enumerate(tokens):
            written += len(vocabulary.token_bytes(token) or b"")
            score = _FORCED if written <= certain else _STYLED
            if i + 1 == len(tokens) and i:
                score = _SPANNED if written > certain else _STYLED
            made = context.add(at, token, self.name, score)
            if made is None:
                return
            at = made

    def _style(self, row: int, text: bytes, ahead: bool) -> Style:
        style = self._styles.setdefault(row, Style())
        if not ahead:
            if style.seen > len(text):
                style = self._styles[row] = Style(dict(style.blanks))
            style.read(text)
            return style
        copy = Style(dict(style.blanks))
        copy.read(text)
        return copy

    def _guess(self, automaton: TokenAutomaton, state: int, style: Style) -> tuple[bytes, int]:
        """The bytes that come next, and how many of them are certain."""
        out = bytearray()
        certain = -1
        sign, run, depth, quoted = style.sign, bytes(style.run), style.depth, style.quoted
        while len(out) < _LONGEST and not automaton.is_accepting(state):
            forced = automaton.forced_bytes(state)
            if not forced:
                if certain < 0:
                    certain = len(out)
                if quoted:
                    break
                forced = self._styled(automaton, state, sign, run, depth, style)
                if not forced:
                    break
            out += forced
            state = automaton.advance_bytes(state, forced)
            if state == automaton.DEAD:
                break
            sign, run, depth, quoted = _after(forced, sign, run, depth, quoted)
        return bytes(out[:_LONGEST]), certain if certain >= 0 else len(out)

    def _styled(
        self,
        automaton: TokenAutomaton,
        state: int,
        sign: int,
        run: bytes,
        depth: int,
        style: Style,
    ) -> bytes:
        """What comes where blanks are one choice and a single sign is the other."""
        blanks, only = self._options.of(automaton, state)
        wanted = style.between(sign, only or 0, depth)
        if blanks and wanted.startswith(run) and len(wanted) > len(run):
            return wanted[len(run) :]
        return b"" if only is None else bytes([only])


def _after(
    text: bytes, sign: int, run: bytes, depth: int, quoted: bool
) -> tuple[int, bytes, int, bool]:
    """Last sign, blanks behind it, depth, and whether inside a string, after some more text."""
    escaped = False
    for byte in text:
        if quoted:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                quoted, sign, run = False, byte, b""
        elif byte in WHITESPACE:
            run += bytes([byte])
        else:
            quoted = byte == 0x22
            depth += (byte in b"{[") - (byte in b"}]")
            sign, run = byte, b""
    return sign, run, depth, quoted
