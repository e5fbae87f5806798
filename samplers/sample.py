"""What samplers return."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Count:
    """Drafted tokens that reached the model, and those of them that became text."""

    drafted: int = 0
    accepted: int = 0


@dataclass
class Stats:
    """What a sample cost.

    Attributes:
        forwards: calls of the model in which it took part, prefill included.
        tokens: new tokens, EOS included.
        drafted: drafted tokens that the model scored.
        accepted: drafted tokens that became text.
        by_drafter: the same for each drafter; a token that several proposed counts for each.
        mask_seconds: time spent on the target's weights (masks).
        draft_seconds: time spent drafting.
        rejected: texts thrown away on the way to this one by methods that reject, proposals not taken
            by chains, runs without a survivor by particles.
        lossy: whether drafts were accepted that were not drawn (typical acceptance above temperature 0):
            the text keeps the grammar, but not the law that is otherwise promised.
    """

    forwards: int = 0
    tokens: int = 0
    drafted: int = 0
    accepted: int = 0
    by_drafter: dict[str, Count] = field(default_factory=dict)
    mask_seconds: float = 0.0
    rejected: int = 0
    draft_seconds: float = 0.0
    lossy: bool = False

    def count(self, drafter: str) -> Count:
        """The counts of a drafter, made when first asked for."""
        return self.by_drafter.setdefault(drafter, Count())


@dataclass
class Sample:
    """One text.

    Attributes:
        token_ids: new tokens only, the final EOS included.
        text: without the EOS.
        logprob: natural logarithm of the text's probability, EOS included, under the model at the
            sampling temperature (at temperature 1 when ``temperature=0``), without the grammar.
        constrained_logprob: the same under the law that was drawn from: at every token the model's
            probabilities times the weights (the mask), normalised; before top-p.  Where ``stats.lossy``
            tokens were not drawn from it alone.
        weight: importance weight; 1 where samples count equally.
        complete: whether the text ended with an EOS (and so is whole).
        exact: whether texts drawn so follow the model's law given the grammar exactly, however few
            they are; what samplers accept that reject.  Else weights, or more work, lead towards it,
            or another law is meant: ``method`` says which.
        method: name of the method whose law the text is of: that of the sampler's class, or what it
            chose (``"CARS"`` or ``"MH"`` for ``AlignedSampling``); empty for texts of a backend alone.
        stats: what it cost.
        prefix: the end of the prompt that ``token_ids`` begin with, where it was taken back
            (``heal=True``): not part of ``text``, but of the probabilities.
        token_logprobs, token_constrained_logprobs: the summands of the two, token by token.
    """

    token_ids: list[int]
    text: str
    logprob: float
    constrained_logprob: float
    weight: float = 1.0
    complete: bool = True
    exact: bool = False
    method: str = ""
    stats: Stats = field(default_factory=Stats)
    prefix: bytes = b""
    token_logprobs: list[float] = field(default_factory=list, repr=False)
    token_constrained_logprobs: list[float] = field(default_factory=list, repr=False)
