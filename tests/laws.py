"""The laws of an automaton, inherited by a test class for every kind of grammar.

A subclass provides ``fixed`` (named cases) and ``random_cases()`` (a hypothesis strategy); each
law then runs on every fixed case and on random ones.  The reference for masks is the oracle on the
intermediate form; the reference for accepted texts is the case's own: another parser of the same
source, or the oracle where the form itself is the source.

``GRAMMA_EXAMPLES`` sets how many random cases each law tries.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import oracle
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from strategies import BYTES, segmentation, texts

from constrain import TokenAutomaton, Vocabulary
from grammars.errors import GrammarError, LimitExceeded
from grammars.grammar import Grammar
from grammars.ir import Bag, GrammarIR
from grammars.ir import walk as expressions
from grammars.limits import Limits

EXAMPLES = int(os.environ.get("GRAMMA_EXAMPLES", "10"))

ALL_BYTES = tuple(bytes([value]) for value in range(256))

law_settings = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True)
class Case:
    """One grammar with one vocabulary.

    Attributes:
        grammar: the grammar under test.
        ir: its intermediate form, for the oracle.
        tokens: bytes by token id, None for special tokens.
        eos: end-of-sequence ids.
        reference: decides membership independently of the grammar under test; None where the
            contract leaves it open.
        texts: texts worth asking about, members or not.
        source: shown when a law fails.
        foresees: masks are exact.  Memory does not see far ahead that the few values a grammar has
            will all be used up before the last one is needed; then masks may hold tokens too many,
            never too few, and only that is checked.
        patience: a search for the fewest tokens may take what it needs.
    """

    grammar: Grammar
    ir: GrammarIR
    tokens: tuple[bytes | None, ...]
    eos: tuple[int, ...]
    reference: Callable[[bytes], bool | None]
    texts: tuple[bytes, ...] = ()
    source: str = ""
    foresees: bool = True
    patience: bool = False

    @staticmethod
    def of_ir(
        ir: GrammarIR,
        vocabulary: tuple[tuple[bytes | None, ...], tuple[int, ...]],
        texts: tuple[bytes, ...] = (),
        *,
        foresees: bool = True,
    ) -> Case:
        """A case whose source is the intermediate form itself."""
        return Case(
            Grammar(ir),
            ir,
            *vocabulary,
            reference=lambda data: oracle.member(ir, data),
            texts=texts,
            source=repr(ir),
            foresees=foresees,
        )

    @cached_property
    def automaton(self) -> TokenAutomaton:
        vocabulary = Vocabulary.from_tokens(list(self.tokens), list(self.eos))
        limits = Limits(max_distance_work=10**12) if self.patience else Limits()
        return TokenAutomaton(self.grammar, vocabulary, limits)

    @cached_property
    def exact_distance(self) -> bool:
        """Is the distance the least one?  With bags or memory it is only one that can be reached."""
        nodes = (node for rule in self.ir.rules for node in expressions(rule.body))
        return not oracle.has_memory(self.ir) and not any(isinstance(x, Bag) for x in nodes)

    @property
    def hopeless(self) -> bool:
        """No text of the language can be written in these tokens."""
        return not oracle.completable(self.ir, b"", self.tokens)

    def mask(self, prefix: bytes, tokens_left: int | None = None) -> set[int]:
        return oracle.mask(self.ir, prefix, self.tokens, self.eos, tokens_left)

    def in_tokens(self, text: bytes) -> bool:
        """Does every byte occur in some token?  A text with others may be answered with DEAD."""
        return set(text) <= set().union(*(token for token in self.tokens if token))

    def token(self, token_id: int) -> bytes:
        return self.tokens[token_id] or b""

    def path(self, ids: list[int]) -> int:
        """The state after these tokens."""
        state = self.automaton.start
        for token_id in ids:
            state = self.automaton.advance(state, token_id)
        return state


def allowed(case: Case, state: int, **budget: int) -> set[int]:
    """The ids whose bit ``fill_mask`` sets; bits beyond the vocabulary must be zero."""
    size = len(case.tokens)
    words = -(-size // 32)
    row = np.full(words, -1, dtype=np.int32)  # rubbish that fill_mask has to overwrite
    case.automaton.fill_mask(state, row, **budget)
    bits = np.unpackbits(row.view(np.uint8), bitorder="little")
    assert not bits[size:].any(), "bits beyond the vocabulary are set"
    return set(np.flatnonzero(bits).tolist())


def walk(
    case: Case, rng: random.Random, steps: int = 6, *, by_oracle: bool = False
) -> Iterator[list[int]]:
    """Token sequences along one random walk, the empty one first.

    The masks it goes by are the automaton's own, which law 1 compares with the oracle's: those cost seconds.
    Where masks may hold tokens too many, and where they are what is checked, they are the oracle's.
    """
    by_oracle = by_oracle or not case.foresees
    ids: list[int] = []
    yield []
    for _ in range(steps):
        if by_oracle:
            mask = case.mask(b"".join(map(case.token, ids)))
        else:
            mask = allowed(case, case.path(ids))
        onward = sorted(mask - set(case.eos))
        if not onward:
            return
        ids = [*ids, rng.choice(onward)]
        yield ids


# --- the laws, each on one case ------------------------------------------------------------------


def check_hopeless(case: Case) -> bool:
    """Without any completion the automaton is refused, or at least begins dead."""
    if not case.hopeless:
        return False
    try:
        automaton = case.automaton
    except GrammarError:
        return True
    assert not case.grammar.is_empty, "an empty language must be refused"
    assert allowed(case, automaton.start) == set()
    return True


def check_masks(case: Case, rng: random.Random) -> None:
    """Law 1: a bit is set exactly where the oracle finds a completion; EOS exactly at members."""
    for ids in walk(case, rng, by_oracle=True):
        prefix = b"".join(map(case.token, ids))
        state = case.path(ids)
        mask = allowed(case, state)
        if not case.foresees:
            assert mask >= case.mask(prefix), (ids, prefix)
            continue
        assert mask == case.mask(prefix), (ids, prefix)
        assert mask, "a live state allows something"
        assert case.automaton.is_accepting(state) == oracle.member(case.ir, prefix)


def check_masks_after_text(case: Case, text: bytes) -> None:
    """Law 1 at a state reached by bytes, whether or not tokens can spell them."""
    automaton = case.automaton
    state = automaton.advance_bytes(automaton.start, text)
    if state == automaton.DEAD and not case.in_tokens(text):
        return
    expected = case.mask(text)
    if not case.foresees:
        assert allowed(case, state) >= expected, text
        return
    assert allowed(case, state) == expected, text
    assert (state == automaton.DEAD) == (not expected), text
    assert automaton.is_accepting(state) == oracle.member(case.ir, text), text


def check_advance(case: Case, rng: random.Random) -> None:
    """Law 2: advance, advance_bytes and fill_mask say the same of every token."""
    automaton = case.automaton
    for ids in walk(case, rng, steps=4):
        state = case.path(ids)
        mask = allowed(case, state)
        for token_id, token in enumerate(case.tokens):
            after = automaton.advance(state, token_id)
            assert isinstance(after, int)
            assert (after == automaton.DEAD) == (token_id not in mask), (ids, token_id)
            if token_id in case.eos:
                if token_id in mask:
                    assert after == automaton.FINISHED
            elif token:
                by_bytes = automaton.advance_bytes(state, token)
                assert (by_bytes == automaton.DEAD) == (after == automaton.DEAD), (ids, token)
                assert allowed(case, by_bytes) == allowed(case, after), (ids, token)
        assert automaton.advance_bytes(state, b"") == state
        assert allowed(case, state) == mask, "asking changed the answer"


def check_tokenisations(case: Case, one: list[int], other: list[int]) -> None:
    """Law 2: two tokenisations of the same bytes lead to equal masks."""
    text = b"".join(map(case.token, one))
    by_bytes = case.automaton.advance_bytes(case.automaton.start, text)
    masks = [allowed(case, state) for state in (case.path(one), case.path(other))]
    assert masks[0] == masks[1] == allowed(case, by_bytes), (one, other)


def check_no_dead_ends(case: Case, rng: random.Random) -> None:
    """Law 3: the distance is exact, and tokens that shorten it reach acceptance."""
    if case.foresees:
        check_achievable(case, rng)
    if not case.exact_distance:
        return
    case = replace(case, patience=True)
    automaton = case.automaton
    for ids in walk(case, rng, steps=4):
        state = case.path(ids)
        prefix = b"".join(map(case.token, ids))
        distance, exact = automaton.min_tokens(state)
        assert exact, prefix
        assert distance == automaton.min_tokens_to_accept(state)
        assert distance == oracle.min_tokens(case.ir, prefix, case.tokens), prefix
        while distance:
            options = [
                after
                for token_id in allowed(case, state) - set(case.eos)
                if automaton.min_tokens_to_accept(after := automaton.advance(state, token_id))
                == distance - 1
            ]
            assert options, (ids, distance)
            state = rng.choice(options)
            distance -= 1
        assert automaton.is_accepting(state), ids


def check_achievable(case: Case, rng: random.Random) -> None:
    """Law 3 where the distance is an upper bound: so many tokens do, whatever the budget allows."""
    automaton = case.automaton
    for ids in walk(case, rng, steps=4):
        state = case.path(ids)
        prefix = b"".join(map(case.token, ids))
        distance, exact = automaton.min_tokens(state)
        least = oracle.min_tokens(case.ir, prefix, case.tokens)
        assert least is not None, prefix
        assert distance == least if exact else distance >= least, prefix
        assert (distance == 0) == (least == 0), prefix
        for tokens_left in (distance + 1, distance + 1, distance + 3):
            check_way_out(case, state, prefix, tokens_left, rng)


def check_way_out(
    case: Case, state: int, prefix: bytes, tokens_left: int, rng: random.Random
) -> None:
    """Any walk through the masks for a budget that suffices ends within it."""
    automaton = case.automaton
    begun = (prefix, tokens_left)
    while tokens_left:
        mask = allowed(case, state, tokens_left=tokens_left)
        assert mask, (begun, prefix, tokens_left)
        assert mask <= allowed(case, state), (begun, prefix)
        token_id = rng.choice(sorted(mask))
        state = automaton.advance(state, token_id)
        tokens_left -= 1
        if token_id in case.eos:
            assert state == automaton.FINISHED
            assert oracle.member(case.ir, prefix), (begun, prefix)
            return
        prefix += case.token(token_id)
    raise AssertionError(("no end within the budget", begun, prefix))


def check_budget(case: Case, rng: random.Random) -> None:
    """A token fits the budget if it, the shortest way on from it and one EOS do."""
    if case.foresees:
        # with memory masks err unless the rules' distances are exact
        patience = oracle.has_memory(case.ir)
        check_bounded_budget(replace(case, patience=patience), rng)
    if not case.exact_distance:
        return
    case = replace(case, patience=True)
    for ids in walk(case, rng, steps=3, by_oracle=True):
        prefix = b"".join(map(case.token, ids))
        state = case.path(ids)
        least = oracle.min_tokens(case.ir, prefix, case.tokens) or 0
        for tokens_left in (0, 1, least, least + 1, least + 2, least + 3, 1000):
            mask = allowed(case, state, tokens_left=tokens_left)
            assert mask == case.mask(prefix, tokens_left), (prefix, tokens_left)


def check_bounded_budget(case: Case, rng: random.Random) -> None:
    """Where the distance is an upper bound, masks for a budget are those of the bound."""
    automaton = case.automaton
    for ids in walk(case, rng, steps=3, by_oracle=True):
        prefix = b"".join(map(case.token, ids))
        state = case.path(ids)
        for _ in range(2):  # a search for one number may make others better
            distance = automaton.min_tokens_to_accept(state) or 0
            rests = {
                token_id: automaton.min_tokens_to_accept(automaton.advance(state, token_id)) or 0
                for token_id in allowed(case, state) - set(case.eos)
            }
        ends = set(case.eos) & allowed(case, state)
        for tokens_left in (0, 1, distance, distance + 1, distance + 3, 1000):
            mask = allowed(case, state, tokens_left=tokens_left)
            assert mask <= case.mask(prefix, tokens_left), (prefix, tokens_left)
            found, fitting = (
                mask - set(case.eos),
                {i for i, rest in rests.items() if 1 + rest + 1 <= tokens_left},
            )
            if tokens_left <= distance and oracle.has_memory(case.ir):
                # the bound of a state may be above what those behind its tokens say, and refuses all of them
                assert found <= fitting, (prefix, tokens_left)
            else:
                assert found == fitting, (prefix, tokens_left)
            assert mask & set(case.eos) == (ends if tokens_left else set())


def check_doors(case: Case, rng: random.Random) -> None:
    """What the other public methods say of a state agrees with mask, advance and distance."""
    automaton = case.automaton
    rules = automaton.rules_only()
    trie = automaton.vocabulary.trie
    for ids in walk(case, rng, steps=2):
        state = case.path(ids)
        mask = allowed(case, state)
        assert set(automaton.allowed_tokens(state).tolist()) == mask
        assert set(automaton.allowed_tokens(state, 10**9).tolist()) == mask
        tokens, states = automaton.edges(state)
        onward = {i: automaton.advance(state, i) for i in sorted(mask - set(case.eos))}
        assert dict(zip(tokens.tolist(), states.tolist(), strict=True)) == onward, ids
        assert tokens.tolist() == sorted(onward), ids
        ends, reached, _ = automaton.walk_from(state, 0)
        at_ends = {
            i: after
            for node, after in zip(ends.tolist(), reached.tolist(), strict=True)
            for i in trie.tokens[trie.token_start[node] : trie.token_start[node + 1]].tolist()
        }
        assert at_ends == onward, ids
        relaxed = rules.start
        for token_id in ids:
            relaxed = rules.advance(relaxed, token_id)
        assert set(rules.allowed_tokens(relaxed).tolist()) >= mask, ids
        assert rules.is_accepting(relaxed) >= automaton.is_accepting(state), ids
        if mask:
            fewest = automaton.min_tokens(state)[0]
            least, exact = rules.min_tokens(relaxed)
            assert least <= fewest or not exact, ids
        assert automaton.signature(state, 1) == automaton.signature(state, 3)[:1]
        assert automaton.state_count > 0
        assert automaton.nbytes > 0


def check_forced(case: Case, rng: random.Random) -> None:
    """Forced bytes begin every completion; at least what the language alone forces is reported.

    With memory that is what the rules force: what only memory forces need not be noticed.
    """
    automaton = case.automaton
    for ids in walk(case, rng, steps=4):
        state = case.path(ids)
        prefix = b"".join(map(case.token, ids))
        forced = automaton.forced_bytes(state)
        most = oracle.forced_bytes(case.ir, prefix, case.tokens)
        if oracle.has_memory(case.ir):
            least = oracle.forced_by_rules(case.ir, prefix)
        else:
            least = oracle.forced_bytes(case.ir, prefix, ALL_BYTES)
        assert most[:64].startswith(forced[:64]), prefix
        assert forced.startswith(least), prefix
        spelled = b""
        for token_id in automaton.forced_tokens(state):
            state = automaton.advance(state, token_id)
            spelled += case.token(token_id)
            assert state != automaton.DEAD
        assert forced.startswith(spelled), prefix


def check_finished_and_dead(case: Case) -> None:
    """The two states that are not places in a text."""
    automaton = case.automaton
    assert allowed(case, automaton.FINISHED) == set(case.eos)
    assert allowed(case, automaton.DEAD) == set()
    assert automaton.is_accepting(automaton.FINISHED)
    assert not automaton.is_accepting(automaton.DEAD)
    assert len({automaton.start, automaton.DEAD, automaton.FINISHED}) == 3
    for token_id in range(len(case.tokens)):
        after = automaton.advance(automaton.FINISHED, token_id)
        assert after == (automaton.FINISHED if token_id in case.eos else automaton.DEAD)
        assert automaton.advance(automaton.DEAD, token_id) == automaton.DEAD
    assert automaton.advance_bytes(automaton.DEAD, b"a") == automaton.DEAD
    assert automaton.advance_bytes(automaton.FINISHED, b"a") == automaton.DEAD


def check_batches(case: Case, rng: random.Random) -> None:
    """Rows filled together are the rows filled alone; trimming keeps what it is told to keep."""
    automaton = case.automaton
    states = [case.path(ids) for ids in walk(case, rng)] + [automaton.FINISHED, automaton.DEAD]
    alone = [allowed(case, state) for state in states]
    rows = np.full((len(states), -(-len(case.tokens) // 32)), -1, dtype=np.int32)
    automaton.fill_masks(states, rows)
    bits = np.unpackbits(rows.view(np.uint8), axis=1, bitorder="little")
    assert [set(np.flatnonzero(row).tolist()) for row in bits] == alone
    kept = states[len(states) // 2]
    automaton.trim([kept])
    assert allowed(case, kept) == alone[len(states) // 2]
    assert [allowed(case, case.path(ids)) for ids in ([],)] == alone[:1]


def check_texts(case: Case, text: bytes) -> None:
    """Law 4: the grammar accepts exactly what the reference accepts."""
    expected = case.reference(text)
    if expected is None:
        expected = oracle.member(case.ir, text)
    assert case.grammar.accepts(text) == expected, text
    assert oracle.member(case.ir, text) == expected, ("the intermediate form itself is off", text)
    if not case.hopeless and case.in_tokens(text):
        automaton = case.automaton
        state = automaton.advance_bytes(automaton.start, text)
        assert automaton.is_accepting(state) == expected, text


def mutations(text: bytes, rng: random.Random, alphabet: list[bytes]) -> Iterator[bytes]:
    """The text itself and near misses of it."""
    yield text
    if text:
        at = rng.randrange(len(text))
        yield text[:at] + text[at + 1 :]
        yield text[:at] + rng.choice(alphabet) + text[at + 1 :]
    at = rng.randint(0, len(text))
    yield text[:at] + rng.choice(alphabet) + text[at:]


# --- the mixin -----------------------------------------------------------------------------------


class AutomatonLaws:
    """Inherit, name the class ``Test...``, set ``fixed`` and write ``random_cases``."""

    fixed: ClassVar[Mapping[str, Callable[[], Case]]] = {}
    alphabet: ClassVar[list[bytes]] = list(BYTES)
    _cases: ClassVar[dict[Callable[[], Case], Case]] = {}

    def random_cases(self) -> st.SearchStrategy[Case]:
        raise NotImplementedError

    def random_texts(self) -> st.SearchStrategy[bytes]:
        return texts()

    @classmethod
    def teardown_class(cls) -> None:
        """Lets go of the class's automata, and of all that the oracle remembers of their grammars."""
        AutomatonLaws._cases.clear()
        oracle.forget()

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        if "name" in metafunc.fixturenames:
            metafunc.parametrize("name", list(metafunc.cls.fixed))

    def case(self, name: str) -> Case:
        make = self.fixed[name]
        if make not in self._cases:
            self._cases[make] = make()
        return self._cases[make]

    def random_case(self, data: st.DataObject) -> Case | None:
        """A drawn case, or None if it is one without completions (checked here).

        Few random grammars reach a limit while they are compiled, which is no matter of the laws.
        """
        try:
            case = data.draw(self.random_cases())
            return None if check_hopeless(case) else case
        except LimitExceeded:
            reject()

    # Law 1

    def test_masks(self, name: str) -> None:
        case = self.case(name)
        assert not case.hopeless
        for seed in range(3):
            check_masks(case, random.Random(seed))
        for text in case.texts:
            check_masks_after_text(case, text)

    @law_settings
    @given(data=st.data())
    def test_random_masks(self, data: st.DataObject) -> None:
        if case := self.random_case(data):
            check_masks(case, data.draw(st.randoms()))
            check_masks_after_text(case, data.draw(self.random_texts()))

    # Law 2

    def test_advance(self, name: str) -> None:
        check_advance(self.case(name), random.Random(0))
        check_finished_and_dead(self.case(name))

    @law_settings
    @given(data=st.data())
    def test_random_advance(self, data: st.DataObject) -> None:
        if case := self.random_case(data):
            check_advance(case, data.draw(st.randoms()))
            check_finished_and_dead(case)

    @law_settings
    @given(data=st.data())
    def test_random_tokenisations(self, data: st.DataObject) -> None:
        if case := self.random_case(data):
            for ids in walk(case, data.draw(st.randoms())):
                text = b"".join(map(case.token, ids))
                if other := data.draw(segmentation(text, case.tokens)):
                    check_tokenisations(case, ids, other)

    # Law 3

    def test_no_dead_ends(self, name: str) -> None:
        check_no_dead_ends(self.case(name), random.Random(0))

    @law_settings
    @given(data=st.data())
    def test_random_no_dead_ends(self, data: st.DataObject) -> None:
        if case := self.random_case(data):
            check_no_dead_ends(case, data.draw(st.randoms()))

    def test_budget(self, name: str) -> None:
        check_budget(self.case(name), random.Random(0))

    @law_settings
    @given(data=st.data())
    def test_random_budget(self, data: st.DataObject) -> None:
        if case := self.random_case(data):
            check_budget(case, data.draw(st.randoms()))

    # Law 4

    def test_texts(self, name: str) -> None:
        case = self.case(name)
        rng = random.Random(0)
        for text in case.texts:
            for near in mutations(text, rng, self.alphabet):
                check_texts(case, near)
        for seed in range(5):
            for ids in walk(case, random.Random(seed)):
                check_texts(case, b"".join(map(case.token, ids)))

    @law_settings
    @given(data=st.data())
    def test_random_texts(self, data: st.DataObject) -> None:
        case = data.draw(self.random_cases())
        rng = data.draw(st.randoms())
        for text in (*case.texts, *data.draw(st.lists(self.random_texts(), max_size=4))):
            for near in mutations(text, rng, self.alphabet):
                check_texts(case, near)
        if not check_hopeless(case):
            for ids in walk(case, rng):
                check_texts(case, b"".join(map(case.token, ids)))

    # What follows from the laws

    def test_doors(self, name: str) -> None:
        check_doors(self.case(name), random.Random(0))

    @law_settings
    @given(data=st.data())
    def test_random_doors(self, data: st.DataObject) -> None:
        if case := self.random_case(data):
            check_doors(case, data.draw(st.randoms()))

    def test_forced(self, name: str) -> None:
        check_forced(self.case(name), random.Random(0))

    @law_settings
    @given(data=st.data())
    def test_random_forced(self, data: st.DataObject) -> None:
        if case := self.random_case(data):
            check_forced(case, data.draw(st.randoms()))

    def test_batches(self, name: str) -> None:
        check_batches(self.case(name), random.Random(0))

    @law_settings
    @given(data=st.data())
    def test_random_batches(self, data: st.DataObject) -> None:
        if case := self.random_case(data):
            check_batches(case, data.draw(st.randoms()))
