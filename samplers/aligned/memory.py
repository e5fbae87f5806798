"""What a sampler keeps between calls: a trie for each prompt, all of them within one bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from constrain.healing import Healed
from samplers.aligned.trie import Trie

_Key: TypeAlias = tuple[tuple[int, ...], bytes, int, float]


@dataclass
class Memory:
    """What is kept for a prompt.

    Attributes:
        trie: what was learned.
        attempts, accepted: counts of all calls, by which the next ones choose their width.
    """

    trie: Trie
    attempts: int = 0
    accepted: int = 0


class Memories:
    """Tries by prompt, budget and temperature, the latest used last.

    Args:
        masks: whether tries learn masks.
        max_bytes: of all of them together.
    """

    def __init__(self, masks: bool, max_bytes: int) -> None:
        self._masks = masks
        self._max_bytes = max_bytes
        self._known: dict[_Key, Memory] = {}

    def of(self, prompt: Healed, budget: int, temperature: float) -> Memory:
        """That of a prompt, made if it is new; the others keep no rows."""
        key = (tuple(prompt.prompt), prompt.prefix, budget, temperature)
        found = self._known.pop(key, None)
        if found is None:
            trie = Trie(prompt.automaton, budget, masks=self._masks, max_bytes=self._max_bytes)
            found = Memory(trie)
        for other in self._known.values():
            other.trie.drop_rows()
        self._known[key] = found
        return found

    def put(self, memory: Memory, trie: Trie) -> None:
        """Goes on with another trie."""
        trie.max_bytes = self._max_bytes
        memory.trie = trie
        self.trim(memory)

    def trim(self, current: Memory) -> None:
        """Brings all tries within the bound: the oldest others go, then parts of the current one."""
        others = [key for key, memory in self._known.items() if memory is not current]
        while others and self.nbytes > self._max_bytes:
            del self._known[others.pop(0)]
        current.trie.trim(self._max_bytes - (self.nbytes - current.trie.nbytes))

    @property
    def nbytes(self) -> int:
        """Memory of all tries, in bytes."""
        return sum(memory.trie.nbytes for memory in self._known.values())
