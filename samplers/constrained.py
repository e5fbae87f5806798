"""Grammar-constrained decoding: at each token the model's law within the mask."""

from __future__ import annotations

from constrain.automaton import TokenAutomaton, check_automaton
from constrain.canonical.copies import as_written
from constrain.huggingface.processor import check_budget
from samplers.arguments import check_request
from samplers.backend import OnTokens, Prompt, SpeculativeBackend, check_backend
from samplers.healing import asked, without_prefixes
from samplers.progress import bar
from samplers.sample import Sample
from samplers.speculative.law import Sampling
from samplers.speculative.target import Constrained


class GrammarConstrained:
    """Draws texts token by token from the model's law restricted to what the grammar allows.

    With m(h) the mask after a prefix h, tokens come from p(x | h) 1[x in m(h)] / p(m(h) | h), p at the
    sampling temperature; the mask leaves only what can be completed within ``max_new_tokens``, so
    that every text is complete.  The law of whole texts is therefore not the model's law given the
    grammar: see the aligned samplers for that.

    Args:
        backend: the model with its drafters.
        automaton: the grammar over the model's vocabulary.
        canonical: texts are written as the tokenizer writes them, see
            :class:`~constrain.TokenAutomaton`; makes the automaton anew unless it is such a one.
    """

    def __init__(
        self, backend: SpeculativeBackend, automaton: TokenAutomaton, *, canonical: bool = False
    ) -> None:
        self.backend = check_backend(backend, "GrammarConstrained")
        self.automaton = as_written(check_automaton(automaton, "GrammarConstrained"), canonical)

    def sample(
        self,
        prompt: Prompt,
        n: int = 1,
        *,
        max_new_tokens: int | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int | None = None,
        max_attempts: int | None = None,
        on_tokens: OnTokens | None = None,
        progress: bool = False,
        heal: bool = False,
    ) -> list[Sample]:
        """Draws texts.

        Args:
            prompt: text (tokenized with the tokenizer's defaults), chat messages (by its chat
                template), or token ids.
            n: how many, at least 1.
            max_new_tokens: the budget of each, EOS included; by default 512 or what the context
                leaves.
            temperature: 0 takes the likeliest token.
            top_p: of the masked law, the smallest set of likeliest tokens with this mass.
            seed: for the same texts again.
            max_attempts: for samplers that reject; this one never does.
            on_tokens: called after each step with a sample's number and its new tokens.
            progress: whether to show a bar on standard error.
            heal: whether the prompt's last tokens go back into the grammar where some token reaches
                across its end (:func:`constrain.heal`); ``token_ids`` then begin with them, which
                the budget counts, and ``text`` does not.

        Raises:
            BudgetError: before the first token, if the shortest text does not fit the budget, or
                prompt and budget exceed the model's context.
            TypeError, ValueError: as :func:`samplers.arguments.check_request`.
        """
        check_request(
            n=n,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            max_attempts=max_attempts,
        )
        healed = asked(self.backend, prompt, self.automaton, heal)
        budget = self.backend.budget(len(healed.prompt), max_new_tokens)
        check_budget(healed.automaton, budget)
        with bar(progress, "samples", n) as advance:
            samples = self.backend.generate(
                healed.prompt,
                Constrained(healed.automaton),
                n=n,
                max_new_tokens=budget,
                sampling=Sampling(temperature, top_p),
                seed=seed,
                on_tokens=on_tokens,
                on_end=lambda *_: advance(1),
            )
        for sample in samples:
            sample.method = "GrammarConstrained"
        return without_prefixes(samples, healed)
