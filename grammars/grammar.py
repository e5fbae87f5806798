"""The public face of this layer: :class:`Grammar`."""

from __future__ import annotations

from grammars.compiler import compile_ir
from grammars.ir import GrammarIR
from grammars.limits import DEFAULT_LIMITS, Limits
from grammars.recognizer import Recognizer


class Grammar:
    def __init__(self, ir: GrammarIR, *, limits: Limits = DEFAULT_LIMITS) -> None:
        self.ir = ir
        self.limits = limits
        self.program = compile_ir(ir, limits)
        self._recognizer = Recognizer(self.program, limits)

    def accepts(self, data: str | bytes) -> bool:
        raw = data.encode() if isinstance(data, str) else data
        state, used = self._recognizer.run(raw)
        return used == len(raw) and self._recognizer.accepting[state]
