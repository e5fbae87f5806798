"""Values of made documents against their truth: plain prompt, constrained, grounded, outlines, retries.

For each of the documents of ``extraction_documents.py`` and each engine: fields right, wrong (with those
that are missing and those too many), values invented (strings and numbers that stand nowhere in the
text, up to white space and spelling), and the time.  The model is the embedded default, greedy.

* ``plain``: the prompt alone; the first JSON object of the answer, read leniently.
* ``retry``: the same, but an answer that does not hold the schema is shown with the validator's message
  and asked for again, up to twice.
* ``ours``: ``samplers.extract``: the same prompt, constrained.
* ``grounded``: the same with ``grounded=True``: strings are spans of the text, numbers stand in it.
* ``contrast``: an experiment, see ``extraction_contrast.py``: grounded, each token weighed against what the
  model writes without the text.
* ``blocks``, ``blocks+contrast``: an experiment, see ``extraction_blocks.py``: items of arrays in the order
  of the text, each from a few lines of its own.
* ``outlines``: the same prompt, ``generate`` with an index of outlines-core as logits processor.

An answer has at most ``--tokens`` tokens.  Prompts, grammars and indexes are made within the time; what
depends on the schema alone is made once, for the first document of its kind.  A short run before the
first document is not counted.  Time is the process's CPU time on one thread: other programs may run
beside.  Nothing is kept from one document to the next but compiled schemas.

Usage: ``python benchmarks/extraction.py [--split tune|held-out|all] [--engine plain,ours]``
``[--prompt NAME] [--kind invoice] [--limit N] [--tokens 512] [--dtype bfloat16] [--json FILE] [--show]``;
``--from FILE,FILE`` for the tables of earlier runs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import torch
from extraction_blocks import blocks_grammar
from extraction_contrast import Contrast
from extraction_documents import KINDS, Document, chosen, documents
from extraction_prompts import DEFAULT_PROMPT, PROMPTS
from extraction_scoring import Score, read_leniently, score
from reporting import say, table

import constrain
from constrain import TokenAutomaton, load_model
from constrain.describe import describe_schema
from constrain.huggingface.extraction import vocabulary_for
from constrain.huggingface.prompts import Messages, prompt_ids
from samplers import GrammarConstrained, SpeculativeBackend, extract

RETRIES: Final = 2


@dataclass
class Answer:
    """What an engine wrote.

    Attributes:
        value: the data; ``None`` where there is none.
        text: as written; the last one where it was asked for again.
        tokens: new tokens of all tries.
        tries: how often the model was asked.
        confidence: how sure the model was of each value, by JSON pointer, where the engine says so.
    """

    value: Any
    text: str
    tokens: int
    tries: int = 1
    confidence: dict[str, float] = field(default_factory=dict)


@dataclass
class Record:
    """An answer and how it compares."""

    engine: str
    prompt: str
    document: str
    kind: str
    split: str
    seconds: float
    answer: Answer
    score: Score
    error: str = ""


class Asked:
    """A model and what is asked of it."""

    def __init__(self, model: Any, tokenizer: Any, prompt: str, most_tokens: int) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.prompt = PROMPTS[prompt]
        self.most_tokens = most_tokens

    def messages(self, document: Document) -> list[dict[str, str]]:
        """The prompt as chat messages."""
        made = self.prompt(document.text, describe_schema(document.schema), document.schema)
        return [dict(message) for message in made]

    def builder(self, document: Document) -> Callable[[str, str], Messages]:
        """The prompt as ``extract`` takes it."""
        return lambda text, shown: self.prompt(text, shown, document.schema)

    def blocks(self, document: Document) -> TokenAutomaton:
        """Of the grammar of :func:`blocks_grammar`."""
        vocabulary = vocabulary_for(self.tokenizer, self.model)
        return TokenAutomaton(blocks_grammar(document.schema, document.text), vocabulary)

    def write(self, messages: Messages, processors: Sequence[Any] = ()) -> list[int]:
        """The new tokens of ``generate``, greedy, EOS left out."""
        ids = torch.tensor([prompt_ids(self.tokenizer, messages)])
        end = self.tokenizer.eos_token_id
        with torch.no_grad():
            out = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=self.most_tokens,
                eos_token_id=end,
                pad_token_id=end,
                logits_processor=list(processors),
            )
        tokens: list[int] = out[0, ids.shape[1] :].tolist()
        return tokens[: tokens.index(end)] if end in tokens else tokens

    def text(self, tokens: list[int]) -> str:
        """The text of new tokens."""
        decoded: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return decoded


# -- engines ---------------------------------------------------------------------------------------


def plain(asked: Asked, document: Document) -> Answer:
    """The prompt alone."""
    tokens = asked.write(asked.messages(document))
    text = asked.text(tokens)
    return Answer(read_leniently(text, document.schema), text, len(tokens))


def retry(asked: Asked, document: Document) -> Answer:
    """The prompt, then what the validator says of the answer, up to :data:`RETRIES` times."""
    messages = asked.messages(document)
    written = tries = 0
    while True:
        tokens = asked.write(messages)
        written, tries = written + len(tokens), tries + 1
        text = asked.text(tokens)
        value = read_leniently(text, document.schema)
        complaint = _complaint(value, document.schema)
        if not complaint or tries > RETRIES:
            return Answer(value, text, written, tries)
        messages += [
            {"role": "assistant", "content": text},
            {"role": "user", "content": f"Correct your JSON; the validator says:\n{complaint}"},
        ]


def _complaint(value: Any, schema: Any) -> str:
    if value is None:
        return "there is no JSON object"
    errors = sorted(_validator(json.dumps(schema)).iter_errors(value), key=lambda e: e.json_path)
    return "\n".join(f"{error.json_path}: {error.message}" for error in errors)


@lru_cache
def _validator(schema: str) -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(
        json.loads(schema), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


def ours(asked: Asked, document: Document) -> Answer:
    """``samplers.extract``: the prompt, constrained by the schema."""
    return _extracted(asked, document, grounded=False)


def grounded(asked: Asked, document: Document) -> Answer:
    """``samplers.extract``: the prompt, constrained by the schema and the text."""
    return _extracted(asked, document, grounded=True)


def contrast(asked: Asked, document: Document) -> Answer:
    """``constrain.extract`` with ``generate=Contrast``: an experiment, see ``extraction_contrast``."""
    prompt = asked.builder(document)
    against = Contrast.for_schema(asked.model, asked.tokenizer, document.schema, prompt=prompt)
    found = constrain.extract(
        asked.model,
        asked.tokenizer,
        document.text,
        document.schema,
        grounded=True,
        prompt=prompt,
        max_new_tokens=asked.most_tokens,
        generate=against,
    )
    return Answer(found.value, found.text, len(found.tokens))


def blocks(asked: Asked, document: Document) -> Answer:
    """An experiment, see ``extraction_blocks``: grounded, items in the order of the text's blocks."""
    backend = SpeculativeBackend(asked.model, asked.tokenizer)
    found = GrammarConstrained(backend, asked.blocks(document)).sample(
        asked.messages(document), max_new_tokens=asked.most_tokens, temperature=0.0
    )[0]
    return Answer(json.loads(found.text), found.text, len(found.token_ids))


def blocks_contrast(asked: Asked, document: Document) -> Answer:
    """The same with the contrast."""
    prompt = asked.builder(document)
    against = Contrast.for_schema(asked.model, asked.tokenizer, document.schema, prompt=prompt)
    ids = torch.tensor([prompt_ids(asked.tokenizer, asked.messages(document))])
    tokens = against(asked.model, ids, asked.blocks(document), max_new_tokens=asked.most_tokens)
    text = asked.text(tokens)
    return Answer(json.loads(text), text, len(tokens))


def _extracted(asked: Asked, document: Document, *, grounded: bool) -> Answer:
    found = extract(
        asked.model,
        asked.tokenizer,
        document.text,
        document.schema,
        grounded=grounded,
        prompt=asked.builder(document),
        max_new_tokens=asked.most_tokens,
    )
    return Answer(found.value, found.text, len(found.tokens), confidence=dict(found.confidence))


def outlines(asked: Asked, document: Document) -> Answer:
    """The prompt, constrained by an index of outlines-core."""
    index = _index(json.dumps(document.schema), asked)
    tokens = asked.write(asked.messages(document), [_Outlines(index, asked.tokenizer.eos_token_id)])
    text = asked.text(tokens)
    return Answer(read_leniently(text, document.schema), text, len(tokens))


@lru_cache(len(KINDS))
def _index(schema: str, asked: Asked) -> Any:
    import outlines_core
    from outlines_core.json_schema import build_regex_from_schema

    vocabulary = vocabulary_for(asked.tokenizer, asked.model)
    ids: dict[bytes, list[int]] = {}
    for token in range(vocabulary.size):
        if data := vocabulary.token_bytes(token):
            ids.setdefault(data, []).append(token)
    known = outlines_core.Vocabulary(vocabulary.eos_token_ids[0], ids)
    return outlines_core.Index(build_regex_from_schema(schema), known)


class _Outlines:
    """A logits processor for one text: an index's allowed tokens, all others forbidden."""

    def __init__(self, index: Any, end: int) -> None:
        self._index = index
        self._state = index.get_initial_state()
        self._end = end
        self._begun = False

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self._begun:
            self._state = self._index.get_next_state(self._state, int(ids[0, -1]))
        self._begun = True
        allowed = [] if self._state is None else self._index.get_allowed_tokens(self._state)
        kept = torch.full_like(scores, float("-inf"))
        at = torch.tensor(allowed or [self._end])
        kept[0, at] = scores[0, at]
        return kept


ENGINES: Final[dict[str, Callable[[Asked, Document], Answer]]] = {
    "plain": plain,
    "retry": retry,
    "outlines": outlines,
    "ours": ours,
    "grounded": grounded,
    "contrast": contrast,
    "blocks": blocks,
    "blocks+contrast": blocks_contrast,
}


# -- running ---------------------------------------------------------------------------------------


def measured(engine: str, prompt: str, asked: Asked, document: Document) -> Record:
    """One document by one engine; an engine that fails has everything wrong."""
    began = time.process_time()
    error = ""
    try:
        answer = ENGINES[engine](asked, document)
    except (RuntimeError, ValueError) as failure:
        answer, error = Answer(None, "", 0), f"{type(failure).__name__}: {failure}"
    seconds = time.process_time() - began
    value = answer.value if isinstance(answer.value, dict) else {}
    return Record(
        engine,
        prompt,
        document.name,
        document.kind,
        document.split,
        seconds,
        answer,
        score(document, value),
        error,
    )


def run(
    asked: Asked, engines: Sequence[str], prompt: str, wanted: Sequence[Document], *, show: bool
) -> Iterator[Record]:
    """All documents by all engines, engines in turn for each document."""
    for i, document in enumerate(wanted, 1):
        for engine in engines:
            record = measured(engine, prompt, asked, document)
            said = record.score
            say(
                f"{i}/{len(wanted)} {document.name} {engine}: {said.right}/{said.fields} right, "
                f"{said.extra} too many, {said.invented} invented, {record.answer.tokens} tokens, "
                f"{record.seconds:.1f} s {record.error}"
            )
            if show:
                say(f"  {record.answer.text}\n  wrong: {' '.join(said.wrong_at)}")
            yield record


def summary(records: Iterable[Record], by_kind: bool = False) -> list[dict[str, Any]]:
    """Rows of a table: by engine and prompt, and by kind if wanted."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        key = (record.engine, record.prompt, *((record.kind,) if by_kind else ()))
        groups.setdefault(key, []).append(record)
    return [_row(key, group) for key, group in groups.items()]


def _row(key: tuple[str, ...], group: Sequence[Record]) -> dict[str, Any]:
    fields = sum(r.score.fields for r in group)
    right = sum(r.score.right for r in group)
    row: dict[str, Any] = dict(zip(("engine", "prompt", "kind"), key, strict=False))
    return row | {
        "documents": len(group),
        "fields": fields,
        "right": right,
        "right, %": round(100 * right / fields, 1),
        "wrong": sum(r.score.wrong for r in group),
        "of these too many": sum(r.score.extra for r in group),
        "invented": sum(r.score.invented for r in group),
        "all right": sum(not r.score.wrong for r in group),
        "tokens": sum(r.answer.tokens for r in group) / len(group),
        "seconds": sum(r.seconds for r in group) / len(group),
        "failed": sum(bool(r.error) for r in group),
    }


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Writes records down as JSON."""
    lines = [json.dumps(asdict(record), ensure_ascii=False) for record in records]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def read_records(paths: Iterable[Path]) -> list[Record]:
    """Records of earlier runs; scores are computed again."""
    by_name = {document.name: document for document in documents()}
    records = []
    for path in paths:
        for line in json.loads(path.read_text()):
            answer = Answer(**line.pop("answer"))
            value = answer.value if isinstance(answer.value, dict) else {}
            line["score"] = score(by_name[line["document"]], value)
            records.append(Record(answer=answer, **line))
    return records


def main() -> None:
    """Runs engines over documents and prints tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--split", choices=("tune", "held-out", "all"), default="tune")
    parser.add_argument("--engine", default="plain,ours,grounded")
    parser.add_argument("--prompt", default=DEFAULT_PROMPT, help=", ".join(PROMPTS))
    parser.add_argument("--kind", default=",".join(KINDS))
    parser.add_argument("--limit", type=int)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--show", action="store_true", help="the answers too")
    parser.add_argument("--from", dest="earlier", metavar="FILES")
    options = parser.parse_args()
    if options.earlier:
        report(read_records(map(Path, options.earlier.split(","))))
        return
    torch.set_num_threads(options.threads)
    wanted = chosen(options.split, options.kind.split(","))[: options.limit]
    model, tokenizer = load_model(dtype=options.dtype)
    engines = options.engine.split(",")
    records: list[Record] = []
    for prompt in options.prompt.split(","):
        asked = Asked(model, tokenizer, prompt, options.tokens)
        warm_up(model, tokenizer, engines)
        for record in run(asked, engines, prompt, wanted, show=options.show):
            records.append(record)
            if options.json:
                write_records(options.json, records)
    report(records)


def warm_up(model: Any, tokenizer: Any, engines: Sequence[str]) -> None:
    """A document of its own by each engine, so that none is the first to load what it needs."""
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "population": {"type": "integer"}},
        "required": ["city", "population"],
    }
    document = Document("warm-up", "", "", "Ulm has 130000 inhabitants.", schema, {})
    asked = Asked(model, tokenizer, DEFAULT_PROMPT, 40)
    for engine in engines:
        measured(engine, DEFAULT_PROMPT, asked, document)


def report(records: Sequence[Record]) -> None:
    """Prints the tables."""
    print(table(summary(records)))
    print()
    print(table(summary(records, by_kind=True)))


if __name__ == "__main__":
    main()
