"""What canonical writing and token healing cost.

Three tables: what is made once for a tokenizer, and masks with ``canonical=True`` beside those without,
along texts of a grammar as the tokenizer writes them; ``heal`` on prompts; with ``--model`` the embedded
model on the example invoice, in each mode.  Times are of the processor (other programs do not count).

Usage: ``python benchmarks/token_modes.py [--tokenizers gpt2,llama3] [--texts 20] [--model]``
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from reporting import say, table

from constrain import TokenAutomaton, Vocabulary, heal
from constrain.canonical import rules
from constrain.models import load_model, load_tokenizer
from grammars import Grammar

EXAMPLES = Path(__file__).parent.parent / "examples"
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "born": {"type": "string", "format": "date"},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "light blue"]}},
        "count": {"type": "integer"},
    },
    "required": ["name", "born", "tags", "count"],
    "additionalProperties": False,
}
GRAMMARS: dict[str, Callable[[], Grammar]] = {
    "free text": lambda: Grammar.from_regex(r"(?s).{1,400}"),
    "person": lambda: Grammar.from_json_schema(PERSON),
    "any JSON": lambda: Grammar.from_json_schema(True),
}
TEXTS = {
    "free text": "The quick brown fox (a vixen, really) didn't jump over 12,345 lazy dogs.\n\n\tOr did it?",
    "person": '{"name": "Ada King, \\"Countess\\" of Lovelace", "born": "1815-12-10", '
    '"tags": ["red", "light blue"], "count": 36}',
    "any JSON": '[{"id": 7, "note": "naïve café 不知道"}, [true, null, -1.5e3], {"path/to": "C:\\\\x"}]',
}
T = TypeVar("T")


def timed(make: Callable[[], T]) -> tuple[T, float]:
    """What is made, and the seconds of this thread that it took."""
    began = time.thread_time()
    made = make()
    return made, time.thread_time() - began


def preparation(name: str) -> dict[str, Any]:
    """What is worked out once for a tokenizer."""
    tokenizer = load_tokenizer(name)
    words = Vocabulary.from_huggingface(tokenizer)
    _ = words.trie
    rules.canonical_rules_of(words)  # kernels are loaded, and the file is there
    stored, rules.load_arrays = rules.load_arrays, lambda path: None  # type: ignore[assignment]
    try:
        _, fresh = timed(lambda: rules.rules_of(tokenizer, words))
    finally:
        rules.load_arrays = stored
    _, known = timed(lambda: rules.rules_of(tokenizer, words))
    return {"tokenizer": name, "tokens": words.size, "worked out, s": fresh, "from disk, s": known}


def masks(name: str, kind: str, count: int) -> Iterator[dict[str, Any]]:
    """Masks along texts: those of the automaton without the option, then what the option adds."""
    tokenizer = load_tokenizer(name)
    words = Vocabulary.from_huggingface(tokenizer)
    grammar = GRAMMARS[kind]()
    texts = [TEXTS[kind], *(grammar.sample(seed, 200).decode() for seed in range(count - 1))]
    written = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    # some tokenizers lack bytes, or write another text (NFC) than the one they are given
    pairs = zip(texts, written, strict=True)
    written = [ids for text, ids in pairs if words.decode(ids) == text.encode()]
    for canonical in (False, True):
        automaton = TokenAutomaton(grammar, words, canonical=canonical)
        if canonical:  # what is made once in a process
            warm = TokenAutomaton(Grammar.from_regex("[a-z ]{1,20}"), words, canonical=True)
            for token in warm.allowed_tokens(warm.start).tolist()[:3]:
                warm.mask(warm.advance(warm.start, token))
        seen: set[int] = set()
        new, known = list[float](), list[float]()
        for ids in written:
            state = automaton.start
            for token in ids:
                into = known if state in seen else new
                into.append(timed(partial(automaton.mask, state))[1] * 1e3)
                seen.add(state)
                state = automaton.advance(state, token)
                if state == automaton.DEAD:
                    raise SystemExit(f"{name}, {kind}: the text of the tokenizer is not allowed")
        yield {
            "tokenizer": name,
            "grammar": kind,
            "canonical": "yes" if canonical else "no",
            "new masks": len(new),
            "median, ms": float(np.median(new)),
            "90 %": float(np.quantile(new, 0.9)),
            "99 %": float(np.quantile(new, 0.99)),
            "most": max(new),
            "known, ms": float(np.median(known)) if known else None,
        }


def healing(name: str, kind: str) -> dict[str, Any]:
    """``heal`` on a prompt that ends in blanks or within a word: the first time, and again."""
    tokenizer = load_tokenizer(name)
    automaton = TokenAutomaton(GRAMMARS[kind](), Vocabulary.from_huggingface(tokenizer))
    ends = {"free text": "Say: the qui", "person": "Ada is\n ", "any JSON": "x = "}
    prompt = tokenizer.encode(ends[kind], add_special_tokens=False)
    automaton.mask(automaton.start)
    first, fresh = timed(lambda: heal(prompt, automaton))
    _, mask = timed(lambda: first.automaton.mask(first.automaton.start))
    _, known = timed(lambda: heal(prompt, automaton))
    return {
        "tokenizer": name,
        "grammar": kind,
        "taken": repr(first.prefix.decode()) if first.taken else "nothing",
        "first, ms": fresh * 1e3,
        "its first mask, ms": mask * 1e3 if first.taken else None,
        "again, ms": known * 1e3,
    }


def written_by_the_model() -> Iterator[dict[str, Any]]:
    """The example invoice by the embedded model, greedy: drafts, masks, and in which way it is written."""
    from constrain.describe import describe_schema
    from constrain.huggingface.extraction import automaton_for, default_prompt
    from samplers import GrammarConstrained, SpeculativeBackend

    model, tokenizer = load_model()
    schema = (EXAMPLES / "invoice.schema.json").read_text("utf-8")
    asked = default_prompt((EXAMPLES / "invoice.txt").read_text("utf-8"), describe_schema(schema))
    plain = automaton_for(Grammar.from_json_schema(schema), tokenizer, model)
    for canonical in (False, True):
        for heals in (False, True):
            backend = SpeculativeBackend(model, tokenizer)
            sampler = GrammarConstrained(backend, plain, canonical=canonical)
            (sample,) = sampler.sample(asked, max_new_tokens=256, temperature=0.0, heal=heals)
            body = sample.token_ids[:-1]
            whole = sample.prefix.decode() + sample.text
            own = tokenizer.encode(whole, add_special_tokens=False) == body
            yield {
                "canonical": "yes" if canonical else "no",
                "heal": "yes" if heals else "no",
                "taken": repr(sample.prefix.decode()),
                "tokens": len(sample.token_ids),
                "calls of the model": sample.stats.forwards,
                "drafts accepted": f"{sample.stats.accepted}/{sample.stats.drafted}",
                "masks, ms a token": sample.stats.mask_seconds / len(body) * 1e3,
                "as the tokenizer writes": "yes" if own else "no",
                "log-probability": sample.logprob,
            }


def main() -> None:
    """Prints Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tokenizers", default="smollm2,gpt2,llama3,o200k,gemma3")
    parser.add_argument("--texts", type=int, default=20)
    parser.add_argument("--model", action="store_true", help="the embedded model as well")
    options = parser.parse_args()
    names = options.tokenizers.split(",")
    made: dict[str, list[dict[str, Any]]] = {"once": [], "masks": [], "healing": []}
    for name in names:
        say(name)
        made["once"].append(preparation(name))
        for kind in GRAMMARS:
            made["masks"] += masks(name, kind, options.texts)
            made["healing"].append(healing(name, kind))
    for records in made.values():
        print(table(records), end="\n\n")
    if options.model:
        print(table(list(written_by_the_model())))


if __name__ == "__main__":
    main()
