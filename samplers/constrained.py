"""Grammar-constrained decoding: at each token the model's law within the mask."""

from __future__ import annotations

from constrain.automaton import TokenAutomaton, check_automaton
from constrain.canonical.copies import as_written
from constrain.huggingface.processor import check_budget
from samplers.backend import Prompt, SpeculativeBackend, check_backend
from samplers.healing import asked, without_prefixes
from samplers.options import Sampler, SamplingOptions
from samplers.progress import bar
from samplers.sample import Sample
from samplers.speculative.law import Sampling
from samplers.speculative.target import Constrained


class GrammarConstrained(Sampler):
    """Draws texts token by token from the model's law restricted to what the grammar allows.

    With m(h) the mask after a prefix h, tokens come from p(x | h) 1[x in m(h)] / p(m(h) | h), p at the
    sampling temperature; the mask leaves only what can be completed within ``max_new_tokens``, so
    that every text is complete.  The law of whole texts is therefore not the model's law given the
    grammar: see the aligned samplers for that.

    Args:
        backend: the model with its drafters.  One with typical acceptance is lossy: texts keep the grammar
            and do not have this law; ``stats.lossy`` and ``report.lossy`` say so.
        automaton: the grammar over the model's vocabulary.
        canonical: texts are written as the tokenizer writes them, see
            :class:`~constrain.TokenAutomaton`; makes the automaton anew unless it is such a one.
    """

    def __init__(
        self, backend: SpeculativeBackend, automaton: TokenAutomaton, *, canonical: bool = False
    ) -> None:
        self.backend = check_backend(backend, "GrammarConstrained", lossy=True)
        self.automaton = as_written(check_automaton(automaton, "GrammarConstrained"), canonical)
        self.report = self.new_report()

    def draw(self, prompt: Prompt, n: int, options: SamplingOptions) -> list[Sample]:
        """Draws texts; each is complete within the budget."""
        healed = asked(self.backend, prompt, self.automaton, options.heal)
        budget = self.backend.budget(len(healed.prompt), options.max_new_tokens)
        check_budget(healed.automaton, budget)
        with bar(options.progress, "samples", n) as advance:
            samples = self.backend.generate(
                healed.prompt,
                Constrained(healed.automaton),
                n=n,
                max_new_tokens=budget,
                sampling=Sampling(options.temperature, options.top_p),
                seed=options.seed,
                on_tokens=options.on_tokens,
                on_end=lambda *_: advance(1),
            )
        for sample in samples:
            sample.method = "GrammarConstrained"
        return without_prefixes(samples, healed)
