"""A grammar as a ``LogitsProcessor`` for ``generate``."""

from __future__ import annotations

import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from transformers import LogitsProcessor

from constrain.arguments import check_count, described
from constrain.automaton import TokenAutomaton, check_automaton, fill_masks
from constrain.bitmask import allocate_bitmask, apply_bitmask_, apply_bitmask_and_look_
from constrain.canonical.copies import as_written
from constrain.huggingface.generation import is_running, running_generation
from constrain.room import with_room
from grammars.errors import BudgetError, LimitExceeded, UnknownStateError

_Ids: TypeAlias = npt.NDArray[np.int64]


@dataclass
class _Row:
    """One row of the batch as it was at the last call.

    Attributes:
        ids: all its tokens, prompt included.
        states: the automaton's state after 0, 1, ... tokens behind the prompt.
    """

    ids: _Ids
    states: list[int]


@dataclass(eq=False)
class _Block:
    """One ``with processor.generation():``, and the thread that entered it."""

    thread: threading.Thread


@dataclass
class _Texts:
    """The texts that are being written.

    Attributes:
        prompts: the rows of the first call.
        length: tokens of a prompt, padding included.
        rows: the rows of the last call.
        scope: the generation they belong to: a weak reference to it, or ``None`` outside of one.
        thread: the thread that began them.
    """

    prompts: list[_Ids]
    length: int
    rows: list[_Row]
    scope: Callable[[], object | None] | None
    thread: threading.Thread


class GrammarLogitsProcessor(LogitsProcessor):  # type: ignore[misc]
    """Allows only tokens that lead to a text of the grammar.

    What counts as constrained text is what ``generate`` adds; prompt tokens are not part of it.
    The same object may be used for any number of calls, one after the other.  It serves batches
    (left padding included), ``num_beams``, ``num_return_sequences``, assisted decoding and prompt
    lookup.

    **A new prompt or a text that goes on?**  At every call each row is compared, token by token, with
    the prompts and with the rows of the call before; lengths alone decide nothing.

    ===================================================================  ====================================
    the call                                                             is taken for
    ===================================================================  ====================================
    the first one in a call of ``generate``, whatever its tokens         new prompts
    a later one there: rows that begin with that call's prompts          texts that go on, or back (drafts)
    a later one there: a row that does not                               new prompts, row by row
    outside: every row is one of the last call's plus one allowed token  texts that go on
    ... the same, with a token that is not allowed                       texts that go on; a warning; the end
                                                                         alone is allowed in that row
    ... all rows have finished, or ``max_new_tokens`` are spent          new prompts
    ... the prompts again, or a row that begins with no prompt           new prompts
    ... a row that the grammar does not allow behind its prompt          new prompts
    ... anything else that begins with the prompts, of the grammar       ``RuntimeError``: it may be either;
                                                                         ``reset`` before it says: new,
                                                                         ``generation`` that it is not
    from another thread while texts are being written                    ``RuntimeError``: one processor for
                                                                         each thread
    ===================================================================  ====================================

    Where nothing is allowed but the end, EOS is forced; a row never loses its last finite logit.

    **Limits.**  A row that needs more than a limit of its grammar allows ends there, incomplete, with a
    ``RuntimeWarning``; ``failures`` has its error, and the other rows go on.  Where that would end all that
    is being written, or the row's prompt has other rows (beams would take its end for a text's), the
    ``LimitExceeded`` is raised instead.  States of an automaton that has ``max_states`` of them are
    forgotten, but for those of the rows being written; other processors that share it find theirs again.

    Args:
        automaton: one for all rows, or one for each prompt in the batch (rows of the same prompt,
            beams for example, lie side by side and share it).  Automata may be shared by processors
            and threads.
        max_new_tokens: the budget, EOS included; give ``generate`` the same number.  Every text is
            then complete within it.  Without it a text may be cut off by ``generate``'s limit, which
            a processor cannot see; a warning says so once.
        canonical: masks keep to the tokenizer's own way of writing, by automata that are made anew
            (once for each; see :class:`~constrain.TokenAutomaton` and docs/tokens.md for the cost).

    A processor cannot take tokens of a prompt back.  For prompts that end within a word give ``generate``
    what :func:`~constrain.heal_inputs` makes of them, its processor included.

    Raises:
        TypeError: if it is given anything but automata, or a budget that is no integer.
        GrammarError: for ``canonical`` with a tokenizer that has no byte-pair merges.
        BudgetError: at the first call, if the shortest text does not fit the budget.

    Copies (``copy.copy``, ``copy.deepcopy``, pickle) share or carry the automata and are writing nothing
    yet.

    Attributes:
        mask_seconds: time spent on masks since it was made.
        failures: of the texts last begun, the errors of rows that were given up, by the row's number.
    """

    def __init__(
        self,
        automaton: TokenAutomaton | Sequence[TokenAutomaton],
        *,
        max_new_tokens: int | None = None,
        canonical: bool = False,
    ) -> None:
        given = checked_automata(automaton)
        self.automata: Final = tuple(as_written(one, canonical) for one in given)
        self.max_new_tokens: Final = check_count(max_new_tokens, "max_new_tokens", optional=True)
        self.mask_seconds = 0.0
        self.failures: dict[int, LimitExceeded] = {}
        self._texts: _Texts | None = None
        self._block: _Block | None = None
        self._busy = threading.Lock()
        self._warned = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (self.automata, self.max_new_tokens)

    def __deepcopy__(self, memo: dict[int, Any]) -> GrammarLogitsProcessor:
        return _made(self.automata, self.max_new_tokens)

    def reset(self) -> None:
        """Forgets the last call: the next one begins with new prompts, from any thread."""
        self._texts = None

    @contextmanager
    def generation(self) -> Iterator[GrammarLogitsProcessor]:
        """One generation written by hand: calls within may go back, as ``generate``'s own may.

        Example::

            with processor.generation():
                while ...:  # drafts are scored in any order, and given up
                    logits = processor(prompt_and_draft, logits)

        The first call within begins with new prompts; whatever begins with them afterwards is their
        text.  A call of ``generate`` needs no such block.
        """
        if self._block is not None:
            raise RuntimeError("this processor is inside a generation() block already")
        self._check_thread()
        self.reset()
        self._block = _Block(threading.current_thread())
        try:
            yield self
        finally:
            self._block = None
            self.reset()

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Masks the scores.

        Args:
            input_ids: int64[rows, length], prompts and what was generated so far.
            scores: floating[rows, V'], V' at least the largest token id that has bytes.

        Returns:
            A copy of ``scores``, minus infinity where a token is not allowed.

        Raises:
            RuntimeError: if it cannot be told whether the call has new prompts, or another thread is
                writing; see the table above.
        """
        if not self._busy.acquire(blocking=False):
            raise RuntimeError(_OTHER_THREAD)
        try:
            began = time.perf_counter()
            out = self._masked(input_ids, scores)
            self.mask_seconds += time.perf_counter() - began
        finally:
            self._busy.release()
        return out

    def _masked(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        _check_shapes(input_ids, scores)
        # a copy: callers may write the next token into the same memory
        ids: _Ids = input_ids.detach().to("cpu", torch.int64, copy=True).numpy()
        automata = self._automata_for(len(ids))
        self._check_width(automata, scores.shape[-1])
        for left in reversed(range(_PATIENCE)):
            try:
                texts = self._placed(ids, automata)
                bitmask = self._bitmask(texts, automata, ids.shape[1] - texts.length)
                break
            except UnknownStateError:  # another holder of an automaton has made room
                if not left:
                    raise
                self._find_again()
        self._texts = texts
        return apply_and_keep_one(scores, bitmask)

    def _find_again(self) -> None:
        """Walks the last call's rows anew, as their states were forgotten."""
        texts = self._texts
        if texts is None:
            return
        automata = self._automata_for(len(texts.rows))
        for i, (row, automaton) in enumerate(zip(texts.rows, automata, strict=True)):
            if i not in self.failures:
                row.states[:] = [automaton.start]
                held = partial(self._held, automaton, [texts.rows[:i]], len(texts.rows))
                _take(automaton, row.states, row.ids[texts.length :].tolist(), held)

    # -- where the rows are --------------------------------------------------------------------

    def _automata_for(self, rows: int) -> list[TokenAutomaton]:
        each, rest = divmod(rows, len(self.automata))
        if rest or not each:
            raise ValueError(
                f"{rows} rows cannot be shared out among {len(self.automata)} automata; give one "
                "for all rows, or one for each prompt of the batch"
            )
        return [a for a in self.automata for _ in range(each)]

    def _placed(self, ids: _Ids, automata: list[TokenAutomaton]) -> _Texts:
        """The texts with their rows at this call."""
        scope = self._scope()
        texts = self._texts
        if texts is not None and _same_scope(texts, scope):
            rows, kept = self._found(texts, ids, automata)
            if rows and (scope is not None or self._goes_on(texts, rows, kept, automata)):
                return _Texts(texts.prompts, texts.length, rows, texts.scope, texts.thread)
        self._check_thread()
        return self._begin(ids, automata, scope)

    def _scope(self) -> object | None:
        """The generation that this call is part of, if that can be known."""
        if self._block is None:
            return running_generation()
        if self._block.thread is not threading.current_thread():
            raise RuntimeError(_OTHER_THREAD)
        return self._block

    def _begin(self, ids: _Ids, automata: list[TokenAutomaton], scope: object | None) -> _Texts:
        """All rows are prompts."""
        self._check_budget()
        self.failures = {}
        rows = [_Row(row, [a.start]) for row, a in zip(ids, automata, strict=True)]
        reference = None if scope is None else weakref.ref(scope)
        thread = threading.current_thread()
        return _Texts(list(ids), ids.shape[1], rows, reference, thread)

    def _check_budget(self) -> None:
        if self.max_new_tokens is None:
            if not self._warned:
                self._warned = True
                warnings.warn(
                    "GrammarLogitsProcessor has no max_new_tokens and cannot see generate's own "
                    "limit, so that texts may be cut off; pass the same max_new_tokens to both",
                    stacklevel=6,
                )
            return
        for automaton in self.automata:
            check_budget(automaton, self.max_new_tokens)

    def _check_thread(self) -> None:
        """Refuses new prompts while another thread is writing."""
        texts = self._texts
        if texts is None or texts.thread is threading.current_thread():
            return
        if texts.scope is None:
            writing = texts.thread.is_alive() and not self._may_have_ended(texts)
        else:
            generation, thread = texts.scope(), texts.thread.ident
            writing = (
                generation is not None and thread is not None and is_running(generation, thread)
            )
        if writing:
            raise RuntimeError(_OTHER_THREAD)

    def _may_have_ended(self, texts: _Texts) -> bool:
        """Whether every row could have been given its EOS after the last call."""
        automata = self._automata_for(len(texts.rows))
        return all(
            a.is_accepting(row.states[-1]) for row, a in zip(texts.rows, automata, strict=True)
        )

    # -- texts that go on ----------------------------------------------------------------------

    def _found(
        self, texts: _Texts, ids: _Ids, automata: list[TokenAutomaton]
    ) -> tuple[list[_Row], int]:
        """The rows if all begin with a prompt, else none; and how many tokens of all are known."""
        out: list[_Row] = []
        least = ids.shape[1]
        for i, row in enumerate(ids):
            found = self._ancestor(texts, i, len(ids), row)
            if found is None:
                return [], 0
            before, kept = found
            states = before.states[: kept - texts.length + 1]
            try:
                known = (
                    [out, texts.rows] if len(texts.rows) == len(ids) else [out]
                )  # rows of the last call that are not held are walked anew
                held = partial(self._held, automata[i], known, len(ids))
                _take(automata[i], states, row[texts.length :].tolist(), held)
            except LimitExceeded as error:
                self._give_up(texts, {i: error})
                states += [automata[i].DEAD] * (len(row) - texts.length + 1 - len(states))
            out.append(_Row(row, states))
            least = min(least, kept)
        return out, least

    def _held(
        self, automaton: TokenAutomaton, calls: Sequence[Sequence[_Row]], total: int
    ) -> set[int]:
        """The states of an automaton that rows of some calls ended in.

        Those before are not held: a draft that is given up, or a beam, is walked anew where they are
        forgotten.
        """
        return {
            row.states[-1]
            for rows in calls
            for its, row in zip(self._automata_for(total), rows, strict=False)
            if its is automaton
        }

    def _give_up(self, texts: _Texts, errors: Mapping[int, LimitExceeded]) -> None:
        """Notes rows that cannot go on, with a warning.

        Raises:
            LimitExceeded: if no other row would go on, or if other rows have the same prompt.
        """
        prompts = [prompt.tobytes() for prompt in texts.prompts]
        alone = all(prompts.count(prompts[i]) == 1 for i in errors if i < len(prompts))
        if not alone or len(self.failures | dict(errors)) >= len(prompts):
            raise next(iter(errors.values()))
        for i, error in errors.items():
            if i not in self.failures:
                self.failures[i] = error
                warnings.warn(
                    f"row {i} ends here, incomplete: {error}; the others go on",
                    RuntimeWarning,
                    stacklevel=6,
                )

    def _ancestor(self, texts: _Texts, i: int, rows: int, row: _Ids) -> tuple[_Row, int] | None:
        """The former row of the same prompts that agrees longest with this one, and how far."""
        group = i * len(self.automata) // rows
        best: tuple[_Row, int] | None = None
        for before in _own_first(texts.rows, i, group, len(self.automata)):
            kept = _common_prefix(before.ids, row)
            if kept >= texts.length and (best is None or kept > best[1]):
                best = before, kept
                if kept >= len(row) - 1:
                    break
        if best is None:
            for prompt in _own_first(texts.prompts, i, group, len(self.automata)):
                if _common_prefix(prompt, row) == texts.length:
                    return _Row(prompt, [self.automata[group].start]), texts.length
        return best

    def _goes_on(
        self, texts: _Texts, rows: list[_Row], kept: int, automata: list[TokenAutomaton]
    ) -> bool:
        """Whether rows that begin with the prompts are their texts and one token more.

        Outside ``generate`` tokens alone must tell.

        Raises:
            RuntimeError: if they cannot.
        """
        length = len(rows[0].ids)
        generated = length - texts.length
        spent = self.max_new_tokens is not None and generated >= self.max_new_tokens
        ends = [(row.states[-1], a) for row, a in zip(rows, automata, strict=True)]
        if generated == 0 or spent or all(state == a.FINISHED for state, a in ends):
            return False
        grown = kept == length - 1 == len(texts.rows[0].ids)
        if grown and len(rows) == len(texts.rows):
            return True
        if any(state == a.DEAD for state, a in ends):
            return False
        raise RuntimeError(_AMBIGUOUS)

    # -- masks ---------------------------------------------------------------------------------

    def _bitmask(
        self, texts: _Texts, automata: list[TokenAutomaton], generated: int
    ) -> torch.Tensor:
        rows = texts.rows
        widest = max(a.vocabulary.size for a in automata)
        bitmask = allocate_bitmask(len(rows), widest)
        left = None if self.max_new_tokens is None else self.max_new_tokens - generated
        table = bitmask.numpy()
        pairs = [(a, row.states[-1]) for a, row in zip(automata, rows, strict=True)]
        try:
            _fill_with_room(pairs, table, left)
        except LimitExceeded as error:
            self._give_up(texts, error.rows)
            for i in error.rows:
                rows[i].states[-1] = automata[i].DEAD
            pairs = [(a, row.states[-1]) for a, row in zip(automata, rows, strict=True)]
        for number, ((automaton, state), line) in enumerate(zip(pairs, table, strict=True)):
            if line.any():
                continue
            _check_lost(automaton, state, left)
            if texts.scope is None and number not in self.failures:
                _warn_of_foreign(number, rows[number], automaton)
            # a draft or another processor put a token here that the mask did not allow, or generate
            # goes on beyond the budget
            automaton.fill_mask(automaton.FINISHED, line[: -(-automaton.vocabulary.size // 32)])
        return bitmask

    @staticmethod
    def _check_width(automata: list[TokenAutomaton], width: int) -> None:
        for automaton in dict.fromkeys(automata):
            size = automaton.vocabulary.size
            if width < size and (
                any(automaton.vocabulary.texts[width:])
                or max(automaton.vocabulary.eos_token_ids) >= width
            ):
                raise ValueError(
                    f"the logits have {width:,} columns, but the vocabulary has tokens up to id "
                    f"{size - 1:,}; is it the tokenizer of this model?"
                )


_PATIENCE: Final = 64
"""Calls of a step that is stopped for its work, or lacks room, before its row is given up."""
_OTHER_THREAD: Final = (
    "this GrammarLogitsProcessor is writing in another thread; make one processor for each thread "
    "(the automaton may be shared), or call reset() once the other thread has done"
)
_AMBIGUOUS: Final = (
    "the token ids begin with the last call's prompts, but are not its texts plus one token: this may "
    "be a new prompt or a text that went back.  Call reset() before a new prompt; for drafts that are "
    "scored and given up outside of generate, put all calls of one generation into "
    "`with processor.generation():`"
)


def check_budget(automaton: TokenAutomaton, max_new_tokens: int) -> None:
    """Raises ``BudgetError`` if no text and its EOS are known to fit so many tokens."""
    start = automaton.start
    (fewest, exact), _ = with_room(automaton, start, lambda: (), automaton.min_tokens)
    if fewest + 1 > max_new_tokens and not exact:
        (fewest, exact), _ = with_room(automaton, start, lambda: (), automaton.search_further)
    needed = fewest + 1
    if needed <= max_new_tokens:
        return
    if exact:
        says = (
            f"the shortest text of this grammar needs {needed} tokens, EOS included, but max_new_tokens is "
            f"{max_new_tokens}; raise it to at least {needed}"
        )
    else:
        says = (
            f"no text of {max_new_tokens} tokens (EOS included) was found with the work that "
            f"Limits.max_distance_work allows; {needed} are enough: raise max_new_tokens to {needed}"
        )
    raise BudgetError(says, needed=needed, available=max_new_tokens)


def _made(
    automata: tuple[TokenAutomaton, ...], max_new_tokens: int | None
) -> GrammarLogitsProcessor:
    return GrammarLogitsProcessor(automata, max_new_tokens=max_new_tokens)


def checked_automata(given: Any) -> tuple[TokenAutomaton, ...]:
    """One automaton or several, as a tuple.

    Raises:
        TypeError: for anything else.
        ValueError: for none.
    """
    if isinstance(given, TokenAutomaton):
        return (given,)
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        check_automaton(given, "GrammarLogitsProcessor", several=True)
    if not given:
        raise ValueError("at least one automaton is needed")
    for automaton in given:
        check_automaton(automaton, "GrammarLogitsProcessor", several=True)
    return tuple(given)


def _check_shapes(input_ids: Any, scores: Any) -> None:
    for name, given in (("input_ids", input_ids), ("scores", scores)):
        if not isinstance(given, torch.Tensor):
            raise TypeError(f"{name} must be a torch tensor [rows, ...], not {described(given)}")
        if given.ndim != 2:
            raise ValueError(f"{name} must have two dimensions [rows, ...], not {given.ndim}")
    if len(input_ids) != len(scores):
        raise ValueError(f"{len(input_ids)} rows of input_ids, but {len(scores)} rows of scores")


def _same_scope(texts: _Texts, scope: object | None) -> bool:
    if texts.scope is None:
        return scope is None
    return scope is not None and texts.scope() is scope


def _own_first(rows: Sequence[Any], i: int, group: int, groups: int) -> Iterator[Any]:
    """A group's rows, that of the same number first."""
    each = len(rows) // groups
    own = range(group * each, (group + 1) * each)
    if i in own:
        yield rows[i]
    yield from (rows[j] for j in own if j != i)


def _take(
    automaton: TokenAutomaton,
    states: list[int],
    tokens: Sequence[int],
    held: Callable[[], set[int]],
) -> None:
    """Adds the states behind the tokens that a row's states do not reach yet.

    Args:
        automaton: the row's.
        states: the start, and the state behind each of the first tokens.
        tokens: all of the row.
        held: gives the states of other rows that stay where room is made.

    Raises:
        LimitExceeded: where neither more work nor room helps.
        UnknownStateError: if another holder of the automaton had states forgotten.
    """
    for left in reversed(range(_PATIENCE)):
        try:
            while len(states) <= len(tokens):
                states.append(_next(automaton, states[-1], tokens[len(states) - 1]))
            return
        except LimitExceeded as error:
            if not left or error.limit not in ("max_states", "max_mask_work"):
                raise
            if error.limit == "max_states":  # else the step goes on from where it stopped
                automaton.trim(held() | {states[-1]})


def _next(automaton: TokenAutomaton, state: int, token: int) -> int:
    """Behind the end, whatever pads the row changes nothing."""
    return state if state == automaton.FINISHED else automaton.advance(state, token)


def _fill_with_room(
    pairs: Sequence[tuple[TokenAutomaton, int]], table: npt.NDArray[np.int32], left: int | None
) -> None:
    """Masks of rows, as :func:`~constrain.automaton.fill_masks`; room is made where they lack it."""
    words = {-(-automaton.vocabulary.size // 32) for automaton, _ in pairs}
    fill = fill_masks if len(words) == 1 else _fill_each
    try:
        fill(pairs, table, left)
    except LimitExceeded as error:
        full = {pairs[row][0] for row, one in error.rows.items() if one.limit == "max_states"}
        if not full:
            raise
        for automaton in full:
            automaton.trim({state for its, state in pairs if its is automaton})
        fill(pairs, table, left)


def _fill_each(
    pairs: Sequence[tuple[TokenAutomaton, int]], table: npt.NDArray[np.int32], left: int | None
) -> None:
    """Masks of vocabularies of several sizes, as :func:`~constrain.automaton.fill_masks`."""
    failed: dict[int, LimitExceeded] = {}
    for i, (automaton, state) in enumerate(pairs):
        line = table[i, : -(-automaton.vocabulary.size // 32)]
        try:
            automaton.fill_mask(state, line, left)
        except LimitExceeded as error:
            line[:], failed[i] = 0, error
    if failed:
        raise LimitExceeded.of_rows(failed)


def _check_lost(automaton: TokenAutomaton, state: int, left: int | None) -> None:
    """A text that masks led to always leaves a token; one that ignored them need not."""
    if state == automaton.DEAD:
        return
    if left is None or automaton.min_tokens_to_accept(state) + 1 <= left:
        raise RuntimeError(
            "no token is allowed though the text is not complete; this is a defect of gramma, please "
            "report it with the grammar and the tokenizer"
        )


def _warn_of_foreign(number: int, row: _Row, automaton: TokenAutomaton) -> None:
    if len(row.states) > 1 and row.states[-2] != automaton.DEAD:
        warnings.warn(
            f"row {number} goes on with token {row.ids[-1]}, which the grammar (or the budget) does "
            "not allow there; only the end is allowed in that row now.  If this is a new prompt, call "
            "reset() before it",
            stacklevel=5,
        )


def _common_prefix(a: _Ids, b: _Ids) -> int:
    length = min(len(a), len(b))
    differs = np.flatnonzero(a[:length] != b[:length])
    return int(differs[0]) if len(differs) else length


def apply_and_keep_one(scores: torch.Tensor, bitmask: torch.Tensor) -> torch.Tensor:
    """A copy of the scores with a bitmask applied, in which no row loses its last finite score."""
    out = scores.clone()
    lost = ~apply_bitmask_and_look_(out, bitmask)
    if bool(lost.any()):
        # another processor ruled out all that the grammar allows: leave the choice open among it
        out[lost] = apply_bitmask_(torch.zeros_like(out[lost]), bitmask.to(out.device)[lost])
    return out
