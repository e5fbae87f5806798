"""Long documents: what shortening them (``shorten=``) keeps, costs and loses.

A document is a file of many papers: one that the schema asks for, an invoice, an e-mail or a notice of
``extraction_documents.py``, somewhere among papers of the two other kinds, until it has ``--length`` tokens.
Everything is made from seeds; papers of the split to tune on are in no document of the other split.

``--what recall`` reads documents and writes nothing: which share of the one paper each filter keeps.
``--what layers`` reads each document once and says what GemFilter and AskAgain would keep at each layer:
how their layers were chosen.  ``--what extract`` extracts (``samplers.extract``, grounded, greedy)
and compares each field with the truth: right, wrong or missing, too many, invented; seconds in which the
filter chose, in which the model read what was left (forwards of more than 32 tokens), and in all; and the
peak of memory over what was taken before (what the allocator keeps of one method is room for the next: for
peaks run methods one by one).  Time is CPU time on one thread.  Records are appended to ``--json``; what is
there already is not run again, so that a run can be ended and taken up at any time.
``--what cache`` has prompts read, shortened or not, and the model go on for ``--tokens`` tokens, without
drafts and grammar: seconds until the first of them, milliseconds for each (the median), and memory of keys
and values.

Methods: ``full``; ``alone``, the one paper by itself (what there is to gain); ``gem:KEEP``, GemFilter;
``ask:KEEP``, AskAgain; ``spec:KEEP``, SpecPC with the model's own first layers as a draft; ``speckv:KEEP``,
SpecKV with the model as its own draft, of which what each head keeps of the paper counts, on average; each
with options behind commas (``gem:1024,unit=tokens,layer=12``); ``first:KEEP``, ``last:KEEP``: truncation;
``random:KEEP``: random lines.

Usage: ``python benchmarks/long_inputs.py [--what recall|layers|extract|cache] [--split tune|held-out]``
``[--length 5000] [--limit 6] [--methods full,gem:1024] [--json FILE] [--dtype float32] [--tokens 256]``.
Methods are separated by blanks.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch
from extraction_documents import KINDS, Document, chosen
from extraction_scoring import score
from reporting import say, table

from constrain import AskAgain, CacheFilter, GemFilter, Shortened, SpecKV, SpecPC, load_model
from constrain.describe import describe_schema
from constrain.huggingface.asking import default_prompt, encode_prompt
from constrain.huggingface.automata import vocabulary_for
from constrain.huggingface.shortening import KeysRead, LongPrompt
from constrain.huggingface.shortening.askagain import question_of
from constrain.huggingface.shortening.document import Document as Place
from constrain.huggingface.shortening.filters import AnyFilter, selected, shortened
from constrain.huggingface.shortening.importance import read_prompt
from constrain.huggingface.shortening.pruning import pruned
from samplers import extract
from samplers.backend import SpeculativeBackend
from samplers.speculative.scorer import Request
from samplers.speculative.tree import ROOT, Tree

_SEED: Final = 4096
RULE: Final = "\n\n" + "-" * 20 + "\n\n"
METHODS: Final = (
    "full alone gem:1024 gem:1024,unit=tokens spec:1024 first:1024 last:1024 random:1024"
)


# -- documents -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LongDocument:
    """A file of papers.

    Attributes:
        document: the file, with schema and truth of the one paper.
        paper: where that stands in it, in characters.
    """

    document: Document
    paper: tuple[int, int]

    @property
    def alone(self) -> str:
        """The one paper."""
        return self.document.text[slice(*self.paper)]

    def kept(self, spans: Sequence[tuple[int, int]]) -> float:
        """The share of the paper's characters that some spans hold."""
        begin, end = self.paper
        held = sum(max(0, min(b, end) - max(a, begin)) for a, b in spans)
        return held / (end - begin)


def long_documents(split: str, length: int, tokens: Callable[[str], int]) -> Iterator[LongDocument]:
    """One for each document of a split, kinds in turn.

    Args:
        split: ``tune`` or ``held-out``.
        length: tokens of each, about.
        tokens: how many a text has.
    """
    for number, paper in enumerate(chosen(split)):
        drawn = random.Random(f"{_SEED} {split} {number} {length}")
        others = [kind for kind in KINDS if kind != paper.kind]
        papers: list[str] = []
        room = length - tokens(paper.text)
        while room > 0:
            made, _ = KINDS[drawn.choice(others)].make(drawn.randrange(10_000), drawn)
            papers.append(made.strip())
            room -= tokens(made + RULE)
        at = drawn.randrange(len(papers) + 1)
        before = "".join(text + RULE for text in papers[:at])
        own = paper.text.strip()
        text = before + own + "".join(RULE + text for text in papers[at:])
        document = replace(paper, name=f"long-{paper.name}", text=text)
        yield LongDocument(document, (len(before), len(before) + len(own)))


# -- methods ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class First:
    """Truncation: the beginning."""

    keep: int

    def choose(self, model: Any, prompt: LongPrompt) -> Sequence[int]:
        return prompt.document[: self.keep]


@dataclass(frozen=True)
class Last:
    """Truncation: the end."""

    keep: int

    def choose(self, model: Any, prompt: LongPrompt) -> Sequence[int]:
        return prompt.document[-self.keep :]


@dataclass(frozen=True)
class RandomLines:
    """Lines drawn at random, as many as fit."""

    keep: int

    def choose(self, model: Any, prompt: LongPrompt) -> Sequence[int]:
        lines = list(prompt.lines)
        random.Random(f"{_SEED} {len(prompt.ids)}").shuffle(lines)
        kept: list[int] = []
        for line in lines:
            if len(kept) + len(line) <= self.keep:
                kept.extend(line)
        return sorted(kept)


_MADE: Final[dict[str, Callable[..., Any]]] = {
    "ask": AskAgain,
    "gem": GemFilter,
    "spec": SpecPC,
    "speckv": SpecKV,
    "first": First,
    "last": Last,
    "random": RandomLines,
}


def filter_of(method: str) -> AnyFilter | None:
    """The filter that a method's name tells; ``None`` for the whole document."""
    if method in ("full", "alone"):
        return None
    name, _, said = method.partition(":")
    keep, *options = said.split(",")
    pairs = (option.split("=") for option in options)
    made: AnyFilter = _MADE[name](
        int(keep), **{key: int(value) if value.isdigit() else value for key, value in pairs}
    )
    return made


@dataclass
class Timed:
    """A filter of prompts that is timed."""

    inner: Any
    seconds: float = 0.0

    @property
    def keep(self) -> int:
        return int(self.inner.keep)

    def choose(self, model: Any, prompt: LongPrompt) -> Sequence[int]:
        began = time.process_time()
        found: Sequence[int] = self.inner.choose(model, prompt)
        self.seconds += time.process_time() - began
        return found


@dataclass
class TimedCache:
    """A filter of caches that is timed, and what it keeps in each group of heads of each layer."""

    inner: Any
    seconds: float = 0.0
    kept: list[list[int]] = field(default_factory=list)
    ids: Sequence[int] = ()

    @property
    def keep(self) -> int:
        return int(self.inner.keep)

    def read(self, model: Any, prompt: LongPrompt) -> KeysRead:
        began = time.process_time()
        found: KeysRead = self.inner.read(model, prompt)
        self.seconds += time.process_time() - began
        self.kept = [row for layer in found.kept for row in layer.tolist()]
        self.ids = prompt.ids
        return found


def timed_filter(given: AnyFilter) -> Timed | TimedCache:
    """A filter that is timed."""
    return TimedCache(given) if isinstance(given, CacheFilter) else Timed(given)


# -- what is measured ------------------------------------------------------------------------------


@dataclass
class Record:
    """A document by a method.

    Attributes:
        length: tokens of the document.
        read: of these, those that were read.
        paper: the share of the one paper's characters that was read.
        choosing, prefill, seconds: CPU seconds of the filter, of reading what was left, and in all.
        megabytes: the peak of memory over what was taken before; -1 where the system does not tell.
    """

    method: str
    document: str
    kind: str
    length: int
    read: int
    paper: float
    choosing: float = 0.0
    prefill: float = 0.0
    seconds: float = 0.0
    megabytes: float = -1.0
    fields: int = 0
    right: int = 0
    wrong: int = 0
    invented: int = 0
    text: str = ""


class Run:
    """A model over long documents."""

    def __init__(self, model: Any, tokenizer: Any, most_tokens: int) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.most_tokens = most_tokens

    def tokens(self, text: str) -> int:
        """How many tokens a text has."""
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def recall(self, long: LongDocument, method: str) -> Record:
        """What a method keeps of the one paper."""
        document, given = long.document, filter_of(method)
        assert given is not None, "recall is of filters"
        asked = default_prompt(document.text, describe_schema(document.schema))
        ids = encode_prompt(self.model, self.tokenizer, asked)
        vocabulary = vocabulary_for(self.tokenizer, self.model)
        timed = timed_filter(given)
        if isinstance(timed, TimedCache):
            _, told = pruned(self.model, ids, document.text, vocabulary, timed)
        else:
            _, told = shortened(self.model, ids, document.text, vocabulary, timed)
        kept = self._paper(long, told, timed)
        return Record(
            method, document.name, document.kind, told.tokens, told.kept, kept, timed.seconds
        )

    def _paper(self, long: LongDocument, told: Shortened, timed: Timed | TimedCache) -> float:
        """The share of the one paper's characters that was kept; by heads, on average."""
        if not isinstance(timed, TimedCache) or not timed.kept:
            return long.kept(told.spans)
        vocabulary = vocabulary_for(self.tokenizer, self.model)
        place = Place.found(long.document.text, timed.ids, vocabulary)
        return sum(long.kept(place.spans(row)) for row in timed.kept) / len(timed.kept)

    def cache(self, long: LongDocument, method: str, tokens: int) -> dict[str, Any]:
        """Time and memory of reading by a method, and of going on."""
        document, given = long.document, filter_of(method)
        text = long.alone if method == "alone" else document.text
        asked = default_prompt(text, describe_schema(document.schema))
        ids = encode_prompt(self.model, self.tokenizer, asked)
        vocabulary = vocabulary_for(self.tokenizer, self.model)
        backend = SpeculativeBackend(self.model, self.tokenizer, drafters=[])
        whole, left = len(ids), None
        began = time.process_time()
        if isinstance(given, CacheFilter):
            left, _ = pruned(self.model, ids, text, vocabulary, given)
        elif given is not None:
            ids, _ = shortened(self.model, ids, text, vocabulary, given)
        with backend.has_read(left):
            scorer = backend.read(ids[:-1], len(ids) + tokens)
        reading = time.process_time() - began
        token, each = ids[-1], []
        for _ in range(tokens):
            began = time.process_time()
            logits = scorer.score([Request([token], Tree(None))]).at(0, ROOT)
            scorer.commit([[]])
            token = int(logits.argmax())
            each.append(time.process_time() - began)
        return {
            "document": document.name,
            "method": method,
            "prompt": whole,
            "kept": scorer.cache.own(0) - tokens,
            "reading, s": round(reading, 1),
            "a token, ms": round(1000 * median(each), 1),
            "keys and values, MB": round(scorer.cache.nbytes / 1e6, 1),
        }

    def layers(self, long: LongDocument, keep: int) -> dict[str, list[float]]:
        """The share of the one paper's tokens that filters keep at each layer, by one reading of all."""
        document = long.document
        asked = default_prompt(document.text, describe_schema(document.schema))
        ids = encode_prompt(self.model, self.tokenizer, asked)
        place = Place.found(document.text, ids, vocabulary_for(self.tokenizer, self.model))
        prompt = LongPrompt(ids, place.tokens, place.lines)
        question = question_of(prompt)
        found: dict[str, list[float]] = {"gem": [], "gem, as ask": [], "ask": []}

        def told(name: str, importance: torch.Tensor) -> None:
            kept = selected(importance, prompt, keep, "lines")
            found[name].append(long.kept(place.spans(kept)))

        def heard(layer: int, scores: torch.Tensor) -> None:
            last, again = scores[:, :1, : len(ids)], scores[:, 1:]
            told("gem", GemFilter(keep).weighed(last))
            told("gem, as ask", GemFilter(keep, kernel=64, pool="max").weighed(last))
            told("ask", AskAgain(keep).weighed(again, len(ids)))

        # the last token of the prompt, and the question behind it
        read_prompt(self.model, [*ids, *question], len(question) + 1, heard)
        return found

    def extract(self, long: LongDocument, method: str) -> Record:
        """What a method extracts."""
        document, given = long.document, filter_of(method)
        text = long.alone if method == "alone" else document.text
        timed = None if given is None else timed_filter(given)
        with _reading(self.model) as reading, _memory() as peak:
            began = time.process_time()
            found = extract(
                self.model,
                self.tokenizer,
                text,
                document.schema,
                grounded=True,
                shorten=timed,
                max_new_tokens=self.most_tokens,
            )
            seconds = time.process_time() - began
        told: Shortened | None = found.shortened
        length = self.tokens(text) if told is None else told.tokens
        choosing = 0.0 if timed is None else timed.seconds
        if isinstance(timed, TimedCache):  # it has the model read, too
            choosing = max(choosing - sum(reading), 0.0)
        said = score(document, found.value)
        return Record(
            method,
            document.name,
            document.kind,
            length,
            length if told is None else told.kept,
            1.0 if told is None or timed is None else self._paper(long, told, timed),
            choosing,
            sum(reading),
            seconds,
            peak[0],
            said.fields,
            said.right,
            said.wrong,
            said.invented,
            found.text,
        )


@contextmanager
def _reading(model: Any) -> Iterator[list[float]]:
    """CPU seconds of the model's forwards of many tokens."""
    found: list[float] = []
    began = [0.0]

    def before(module: Any, arguments: Any, options: dict[str, Any]) -> None:
        began[0] = time.process_time()

    def after(module: Any, arguments: Any, options: dict[str, Any], out: Any) -> None:
        ids = options.get("input_ids", arguments[0] if arguments else None)
        if ids is not None and ids.shape[-1] > 32:
            found.append(time.process_time() - began[0])

    hooks = (
        model.register_forward_pre_hook(before, with_kwargs=True),
        model.register_forward_hook(after, with_kwargs=True),
    )
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _memory() -> Iterator[list[float]]:
    """The peak of memory within, over what was taken before, in MB; -1 where the system does not tell."""
    found = [-1.0]
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what an earlier document took is no room for this one
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = _status("VmRSS")
    except (OSError, AttributeError):
        yield found
        return
    yield found
    found[0] = (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def summary(records: Sequence[Record]) -> list[dict[str, Any]]:
    """A row for each method."""
    rows = []
    for method in dict.fromkeys(record.method for record in records):
        group = [record for record in records if record.method == method]
        n, fields = len(group), sum(record.fields for record in group)
        row: dict[str, Any] = {
            "method": method,
            "documents": n,
            "tokens": round(sum(record.length for record in group) / n),
            "read": round(sum(record.read for record in group) / n),
            "of the paper, %": round(100 * sum(record.paper for record in group) / n, 1),
            "choosing, s": round(sum(record.choosing for record in group) / n, 1),
        }
        if fields:
            right = sum(record.right for record in group)
            row |= {
                "fields": fields,
                "right": right,
                "right, %": round(100 * right / fields, 1),
                "wrong": sum(record.wrong for record in group),
                "invented": sum(record.invented for record in group),
                "prefill, s": round(sum(record.prefill for record in group) / n, 1),
                "all, s": round(sum(record.seconds for record in group) / n, 1),
                "peak, MB": round(sum(record.megabytes for record in group) / n),
            }
        rows.append(row)
    return rows


def say_layers(run: Run, split: str, length: int, limit: int) -> None:
    """Prints what filters keep at each layer, of each document and on average."""
    documents = list(long_documents(split, length, run.tokens))[:limit]
    found = []
    for long in documents:
        found.append(run.layers(long, 1024))
        for name, shares in found[-1].items():
            say(f"{long.document.name} {name}: {' '.join(f'{share:.2f}' for share in shares)}")
    rows: list[dict[str, Any]] = []
    for layer in range(len(found[0]["ask"])):
        row: dict[str, Any] = {"layer": layer}
        for name in found[0]:
            row[name] = round(sum(one[name][layer] for one in found) / len(found), 2)
        rows.append(row)
    print(table(rows))


def say_cache(run: Run, split: str, length: int, limit: int, methods: Sequence[str]) -> None:
    """Prints time and memory of prompts that were read by each method."""
    rows = []
    for long in list(long_documents(split, length, run.tokens))[:limit]:
        for method in methods:
            rows.append(run.cache(long, method, run.most_tokens))
            say(str(rows[-1]))
    print(table(rows))


def known_records(path: Path | None) -> list[Record]:
    """What an earlier run has written."""
    if path is None or not path.exists():
        return []
    return [Record(**json.loads(line)) for line in path.read_text().splitlines()]


def main() -> None:
    """Runs methods over documents and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--what", choices=("recall", "layers", "extract", "cache"), default="recall"
    )
    parser.add_argument("--split", choices=("tune", "held-out"), default="tune")
    parser.add_argument("--length", type=int, default=5000)
    parser.add_argument("--limit", type=int, default=6)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    run = Run(*load_model(dtype=options.dtype), options.tokens)
    methods = options.methods.split()
    if options.what == "layers":
        say_layers(run, options.split, options.length, options.limit)
        return
    if options.what == "cache":
        say_cache(run, options.split, options.length, options.limit, methods)
        return
    if options.what == "recall":
        methods = [method for method in methods if filter_of(method) is not None]
    records = known_records(options.json)
    done = {(record.method, record.document) for record in records}
    documents = list(long_documents(options.split, options.length, run.tokens))[: options.limit]
    if options.what == "extract" and documents:
        run.extract(documents[0], "alone")  # what weights and kernels take is no method's
    for number, long in enumerate(documents, 1):
        for method in methods:
            name = long.document.name
            if (method, name) in done:
                continue
            made = (run.recall if options.what == "recall" else run.extract)(long, method)
            records.append(made)
            say(
                f"{number}/{len(documents)} {name} {method}: read {made.read} of {made.length}, "
                f"{100 * made.paper:.0f} % of the paper, {made.right}/{made.fields} right, "
                f"{made.choosing:.1f} + {made.prefill:.1f} of {made.seconds:.1f} s"
            )
            if options.json:
                with options.json.open("a") as out:
                    out.write(json.dumps(asdict(made), ensure_ascii=False) + "\n")
    print(table(summary(records)))


if __name__ == "__main__":
    main()
