"""What every sampler is asked for: one set of names, defaults and checks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, TypedDict, Unpack

from constrain.arguments import check_count
from grammars.frontends.advice import suggestion
from samplers.arguments import check_request
from samplers.backend import OnTokens, Prompt, SpeculativeBackend
from samplers.report import SamplingReport
from samplers.sample import Sample


class SamplingArguments(TypedDict, total=False):
    """The fields of :class:`SamplingOptions` as keyword arguments."""

    max_new_tokens: int | None
    temperature: float
    top_p: float
    seed: int | None
    max_attempts: int | None
    on_tokens: OnTokens | None
    progress: bool
    heal: bool


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How texts are drawn; the same for every sampler.

    Attributes:
        max_new_tokens: the budget of each text, EOS included; by default 512 or what the model's context
            leaves.
        temperature: of the model's own law; 0 takes the likeliest token, where a sampler can.
        top_p: the smallest set of likeliest tokens with this mass, of the law that the sampler draws
            tokens from; aligned samplers take 1 alone, since truncation would change their target.
        seed: for the same texts again; of samplers that learn, from the same state of what was learned.
        max_attempts: texts that the model may write for one sample, for samplers that throw texts away;
            ``None`` for the sampler's own number.  Others write one.
        on_tokens: called with a sample's number and its new tokens: after each step, or once the sample is
            accepted where texts may be thrown away.
        progress: whether to show a bar on standard error.
        heal: whether the prompt's last tokens go back into the grammar where some token reaches across its
            end (:func:`constrain.heal`); ``Sample.token_ids`` then begin with them, which the budget counts,
            and ``Sample.text`` does not.

    Raises:
        TypeError: for something that is not a number of the kind wanted.
        ValueError: for a number out of range.
    """

    max_new_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    max_attempts: int | None = None
    on_tokens: OnTokens | None = None
    progress: bool = False
    heal: bool = False

    def __post_init__(self) -> None:
        check_request(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            max_attempts=self.max_attempts,
        )

    def updated(self, given: Mapping[str, Any]) -> SamplingOptions:
        """The same with some fields changed.

        Raises:
            TypeError: for a name that is no field, besides what is said above.
        """
        names = [field.name for field in fields(self)]
        for name in given:
            if name not in names:
                raise TypeError(
                    f"sample has no argument {name!r}{suggestion(name, names)}; it takes "
                    f"{', '.join(names)}"
                )
        return replace(self, **given) if given else self


class Sampler(ABC):
    """Draws texts; what all samplers have.

    Attributes:
        defaults: what holds where nothing else is said.
        backend: the model.
        report: what the last call did and learned.
    """

    defaults: ClassVar[SamplingOptions] = SamplingOptions()
    backend: SpeculativeBackend
    report: SamplingReport

    def sample(
        self,
        prompt: Prompt,
        n: int = 1,
        options: SamplingOptions | None = None,
        **given: Unpack[SamplingArguments],
    ) -> list[Sample]:
        """Draws texts.

        Args:
            prompt: text (tokenized with the tokenizer's defaults), chat messages (by its chat template), or
                token ids.
            n: how many, at least 1.
            options: how; the sampler's :attr:`defaults` by default.
            **given: fields of :class:`SamplingOptions` that are otherwise: ``temperature=0.7``.

        Raises:
            TypeError, ValueError: as :class:`SamplingOptions`, or if the sampler cannot do what is asked,
                before the model is called.
            BudgetError: before the first token, if the shortest text does not fit the budget, or prompt and
                budget exceed the model's context.
        """
        asked = self.asked(n, options, given)
        return self.reported(lambda: self.draw(prompt, n, asked))

    def reported(self, draw: Callable[[], list[Sample]]) -> list[Sample]:
        """Draws texts, and reports of it in :attr:`report`, of a failure too."""
        report = self.report = self.new_report()
        before = self.backend.forwards
        try:
            samples = draw()
        finally:
            report.forwards = self.backend.forwards - before
        report.samples = len(samples)
        report.lossy = any(sample.stats.lossy for sample in samples)
        if not report.attempts:  # each text is written once
            report.attempts = report.accepted = len(samples)
        return samples

    def new_report(self) -> SamplingReport:
        """A report of nothing yet, which :meth:`draw` fills in."""
        return SamplingReport(type(self).__name__)

    def asked(
        self, n: int, options: SamplingOptions | None, given: Mapping[str, Any]
    ) -> SamplingOptions:
        """The options of a call, checked."""
        check_count(n, "n")
        if not (options is None or isinstance(options, SamplingOptions)):
            raise TypeError(f"options must be SamplingOptions(...), not {options!r:.80}")
        return (options or self.defaults).updated(given)

    @abstractmethod
    def draw(self, prompt: Prompt, n: int, options: SamplingOptions) -> list[Sample]:
        """Draws texts with options that are complete: what :meth:`sample` does, and a sampler implements."""


__all__ = ["Sampler", "SamplingArguments", "SamplingOptions"]
