"""Hostile files for every door that reads tensors: what becomes of damage, and of what is made up.

A case is a door and a file's bytes.  *Damaged* ones are whole files that were cut, or whose bits and
bytes were changed: they are refused by name, or mean what they meant.  *Made up* ones have a right
checksum and wrong content: they are refused by name, or do no harm when they are used.

``python tests/hostile_files.py --cases 2000`` runs so many and says what came of them, each within a bound
on memory and processor time; ``fuzz.py`` runs them in campaigns, as texts of a character for each byte.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import resource
import struct
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import toys
from hostile import SlowCase, cpu_limit
from safetensors.torch import load, save
from torch import Tensor

from constrain import TokenAutomaton
from grammars import Grammar
from grammars.errors import GrammaError
from samplers import CARS
from samplers.backend import SpeculativeBackend
from samplers.deco_g import HMM
from samplers.deco_g.distil import Corpus
from samplers.diffusion.learn2pd import Filter
from samplers.drafters.learned import FSPAD, PPD, Chimera, HiddenTransfer, LexicalUnits, MedusaHeads
from samplers.drafters.learned.answers import Answer, Laws, load_answers, save_answers
from samplers.drafters.learned.chimera import ChimeraNetwork
from samplers.drafters.learned.features import FeatureNetwork
from samplers.drafters.learned.files import Base, write_file
from samplers.drafters.learned.hidden_transfer import Transfers
from samplers.drafters.learned.lexical_units import Padding
from samplers.drafters.learned.medusa import Heads
from samplers.drafters.learned.medusa2 import Medusa2, adapted
from samplers.drafters.learned.prompt_tokens import PromptTokens
from samplers.speculative.law import Sampling
from samplers.speculative.target import FreeText
from samplers.tensor_files import TensorFileError, write_tensors

HEADROOM = 1_500
"""MiB of address space that a case may take beside what the process has."""
_PROMPT = [toys.BOS, 5, 6]
_BUDGET = 5

# --- doors ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Door:
    """A kind of file.

    Attributes:
        seed: its bytes.
        load: reads one.
        meaning: what tells one that was read from others.
        use: does with it what it is for.
    """

    seed: bytes
    load: Callable[[Path], Any]
    meaning: Callable[[Any], Any]
    use: Callable[[Any], object]


def _bytes_of(write: Callable[[Path], object]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed.safetensors"
        write(path)
        return path.read_bytes()


def _tensors(tensors: Mapping[str, Tensor]) -> Any:
    return {name: (t.dtype, tuple(t.shape), t.tolist()) for name, t in tensors.items()}


def _hmm() -> Door:
    r = torch.Generator().manual_seed(0)
    rows = [torch.rand(*shape, generator=r) for shape in ((4,), (4, 4), (4, 9))]
    hmm = HMM(*(x / x.sum(-1, keepdim=True) for x in rows), "0123456789abcdef")

    def use(made: HMM) -> None:
        assert made.log_likelihood([0]) <= 1e-3
        made.sample(3)

    return Door(
        _bytes_of(lambda path: hmm.save(path, about={"states": 4, "from": ["x"]})),
        HMM.load,
        lambda made: (
            _tensors({n: getattr(made, n) for n in ("initial", "transition", "emission")}),
            made.fingerprint,
        ),
        use,
    )


def _corpus() -> Door:
    hidden = torch.arange(8, dtype=torch.float16).reshape(4, 2)
    corpus = Corpus(((3, 4, 1), (5,)), hidden, (True, False), (1,), 9, "0123456789abcdef")
    return Door(
        _bytes_of(corpus.save),
        Corpus.load,
        lambda made: (
            *(made.sequences, made.held_out, made.eos_token_ids, made.vocabulary_size),
            *(made.fingerprint, made.hidden.tolist()),
        ),
        lambda made: (made.train, made.measured, made.ended),
    )


def _answers() -> Door:
    laws = Laws(
        torch.tensor([[4, 5], [6, -1]], dtype=torch.int32),
        torch.tensor([[0.5, 0.25], [1.0, 0.0]]),
        torch.tensor([False, True]),
    )
    answers = [
        Answer([1, 2, 4, 6], 2, laws),
        Answer([1, 2], 2, Laws(*(x[:0] for x in _parts(laws)))),
    ]
    return Door(
        _bytes_of(lambda path: save_answers(path, answers, {"seed": 0, "top": 2})),
        load_answers,
        lambda made: [
            (a.tokens, a.given, None if a.laws is None else [x.tolist() for x in _parts(a.laws)])
            for a in made
        ],
        lambda made: [a.tokens[a.given :] for a in made],
    )


def _parts(laws: Laws) -> tuple[Tensor, Tensor, Tensor]:
    return laws.ids, laws.probabilities, laws.whole


@cache
def _plain() -> list[int]:
    """What the model writes without drafts."""
    return _written([])


def _written(drafters: list[Any], model: Any = None) -> list[int]:
    backend = SpeculativeBackend(model or toys.model(), drafters=drafters)
    samples = backend.generate(
        _PROMPT, FreeText((toys.EOS,)), max_new_tokens=8, sampling=Sampling(0.0), seed=0
    )
    return list(samples[0].token_ids)


def _use_drafter(drafter: Any) -> None:
    assert _written([drafter]) == _plain(), "another text than without drafts"


def _network(kind: Any, network: Callable[..., Any], **options: Any) -> Door:
    torch.manual_seed(0)
    made = kind(network(toys.model(), torch.arange(3, 40), **options))
    return Door(
        _bytes_of(made.save),
        lambda path: kind.load(path, toys.model()),
        lambda drafter: (_tensors(drafter.network.state_dict()), drafter.network.options),
        _use_drafter,
    )


def _heads() -> Door:
    made = Heads(toys.model(), 2)
    return Door(
        _bytes_of(MedusaHeads(made).save),
        lambda path: MedusaHeads.load(path, toys.model()),
        lambda drafter: _tensors(drafter.heads.state_dict()),
        _use_drafter,
    )


def _medusa2() -> Door:
    torch.manual_seed(0)
    model = toys.model(seed=1)
    adapters = adapted(copy.deepcopy(model), 2, 4.0)
    weights = {
        f"adapters.{name.replace('.', '/')}.{part}": getattr(adapter, part)
        for name, adapter in adapters.items()
        for part in ("down", "up")
    }
    weights |= {f"heads.{n}": w for n, w in Heads(model, 2).state_dict().items()}
    options = {"rank": 2, "scale": 4.0}

    def use(made: Medusa2) -> None:
        with suppress(GrammaError):  # as for any model whose numbers are not finite
            _written([made.drafter], made.model)

    return Door(
        _bytes_of(lambda path: write_file(path, "medusa-2", Base.of(model), weights, options)),
        lambda path: Medusa2.load(path, model),
        lambda made: (
            _tensors(dict(made.model.named_parameters())),
            _tensors(made.drafter.heads.state_dict()),
        ),
        use,
    )


@cache
def _automaton() -> TokenAutomaton:
    return TokenAutomaton(Grammar.from_regex("[0-9]{1,3}|true"), toys.vocabulary())


def _trie() -> Door:
    def sampler() -> CARS:
        return CARS(SpeculativeBackend(toys.model(), drafters=[]), _automaton())

    learned = sampler()
    learned.sample(_PROMPT, 4, max_new_tokens=_BUDGET, seed=1)

    def load(path: Path) -> CARS:
        made = sampler()
        made.load(path, _PROMPT, _BUDGET)
        return made

    def meaning(made: CARS) -> Any:
        nodes = made.memory(_PROMPT, _BUDGET, 1.0).trie.nodes()
        return [
            (n.path(), n.residual, [(t, v.logp, v.theta) for t, v in n.visits.items()])
            for n in nodes
        ]

    def use(made: CARS) -> None:
        try:
            samples = made.sample(_PROMPT, 1, max_new_tokens=_BUDGET, seed=2, max_attempts=50)
        except (GrammaError, ValueError):
            return  # a law of nothing but impossible texts
        for sample in samples:
            data = b"".join(toys.TOKENS[t] or b"" for t in sample.token_ids)
            assert _automaton().grammar.accepts(data), "a text outside the language"

    return Door(_bytes_of(lambda path: learned.save(path, _PROMPT, _BUDGET)), load, meaning, use)


def _filter() -> Door:
    torch.manual_seed(0)
    made = Filter(4, 3)
    return Door(
        _bytes_of(made.save),
        Filter.load,
        lambda found: _tensors(found.state_dict()),
        lambda found: found(torch.zeros(1, found.block)),
    )


_MAKERS: dict[str, Callable[[], Door]] = {
    "hmm": _hmm,
    "corpus": _corpus,
    "answers": _answers,
    "heads": _heads,
    "medusa2": _medusa2,
    "chimera": lambda: _network(Chimera, ChimeraNetwork, count=2),
    "fspad": lambda: _network(FSPAD, FeatureNetwork),
    "hidden": lambda: _network(HiddenTransfer, Transfers, count=2),
    "lexical": lambda: _network(LexicalUnits, Padding, count=2, adapters=1, rank=2),
    "ppd": lambda: _network(PPD, PromptTokens, count=2),
    "trie": _trie,
    "filter": _filter,
}
DOORS = tuple(_MAKERS)


@cache
def door(name: str) -> Door:
    """A kind of file by its name."""
    return _MAKERS[name]()


@cache
def _meaning(name: str) -> Any:
    """What the whole file means."""
    found = _load(name, door(name).seed)
    return door(name).meaning(found)


def _load(name: str, data: bytes) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.safetensors"
        path.write_bytes(data)
        return door(name).load(path)


# --- damage ---------------------------------------------------------------------------------------

_LENGTHS = (0, 1, 7, 2**31, 2**32 + 8, 2**60, 2**63, 2**64 - 1)
"""Of headers."""


def damaged(rng: random.Random, data: bytes) -> bytes:
    """A whole file that was cut, or whose bits and bytes were changed."""
    out = bytearray(data)
    at = rng.randrange(len(out))
    head = 8 + int.from_bytes(data[:8], "little")
    match rng.randrange(9):
        case 0:
            del out[at:]
        case 1:
            out[at] ^= 1 << rng.randrange(8)
        case 2:
            at = rng.randrange(head)
            out[at] ^= 1 << rng.randrange(8)
        case 3:
            every = rng.choice([2, 3, 7, 31, 257, 1023])
            for i in range(rng.randrange(every), len(out), every):
                out[i] ^= 1 << rng.randrange(8)
        case 4:
            del out[at : at + rng.choice([1, 2, 8, 100])]
        case 5:
            out[at:at] = out[at : at + rng.choice([1, 8, 64])]
        case 6:
            out[:8] = struct.pack("<Q", rng.choice(_LENGTHS))
        case 7:
            out[at:] = bytes(len(out) - at)
        case _:
            for _ in range(rng.randint(2, 5)):
                i = rng.randrange(head)
                out[i] = rng.choice(b'0123456789{}[]",:Fxe\\\x00\xff')
    return bytes(out)


# --- what is made up ------------------------------------------------------------------------------

_ODD: list[Any] = [
    None, True, -1, 0, 2, 10**6, 10**9, 10**12, 2**63, 10**400, 0.5, 1e308, float("nan"), float("inf"),
    "", "x", "\x00", [], {}, [1], [[0, 1]], {"a": 1},
]  # fmt: skip
_TEXTS = ["", "{", "[" * 100_000, '{"a":' * 100_000, "9" * 5_000, "1e999", "NaN", '"\\ud800"', "{}"]
_SHAPES: list[tuple[int, ...]] = [
    (0,),
    (1,),
    (0, 0),
    (2, 2),
    (0, 2**40),
    (2**40, 0),
    (1, 1, 1),
    (3, 9),
]
_DTYPES = [
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8,
    torch.bool, torch.complex64, torch.float8_e4m3fn,
]  # fmt: skip


def made_up(rng: random.Random, data: bytes) -> bytes:
    """A file with other tensors and another header, and a right checksum over both."""
    length = int.from_bytes(data[:8], "little")
    header: dict[str, str] = dict(json.loads(data[8 : 8 + length])["__metadata__"])
    tensors = load(data)
    kind = header.pop("format")
    header.pop("checksum")
    for _ in range(rng.choice([1, 1, 2, 3])):
        if header and rng.random() < 0.4:
            _change_header(rng, header)
        elif tensors:
            _change_tensors(rng, tensors)
    if rng.random() < 0.1:  # without a checksum, as earlier versions wrote them
        return save(tensors, {"format": kind, **header})
    return _bytes_of(lambda path: write_tensors(path, kind, tensors, header))


def _change_header(rng: random.Random, header: dict[str, str]) -> None:
    name = rng.choice(sorted(header))
    if rng.random() < 0.2:
        header[name] = rng.choice(_TEXTS)
        return
    try:
        told = json.loads(header[name])
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict) or not told:
        del header[name]
        return
    key = rng.choice(sorted(told))
    match rng.randrange(4):
        case 0:
            del told[key]
        case 1:
            told["another"] = rng.choice(_ODD)
        case _:
            told[key] = rng.choice(_ODD)
    header[name] = json.dumps(told)


def _change_tensors(rng: random.Random, tensors: dict[str, Tensor]) -> None:
    name = rng.choice(sorted(tensors))
    tensor = tensors[name]
    match rng.randrange(8):
        case 0:
            del tensors[name]
        case 1:
            tensors[rng.choice(["x", "", "ids", f"{name}.more"])] = tensor.clone()
        case 2:
            tensors[name] = tensor.to(rng.choice(_DTYPES))
        case 3:
            tensors[name] = torch.zeros(rng.choice(_SHAPES), dtype=tensor.dtype)
        case 4 if tensor.ndim:
            tensors[name] = torch.cat([tensor, tensor[:1]]) if rng.random() < 0.5 else tensor[:-1]
        case 5:
            tensors[name] = tensor.reshape(-1) if tensor.ndim > 1 else tensor[None]
        case 6 if tensor.is_floating_point():
            value = rng.choice([float("nan"), float("inf"), -float("inf"), 3e38, -1.0, 0.0, 1e-45])
            tensors[name] = _with(rng, tensor, value)
        case _ if not tensor.is_complex() and tensor.dtype != torch.bool:
            value = rng.choice([-1, 0, 1, 2, 100, 2**31 - 1, -(2**31)])
            tensors[name] = _with(rng, tensor, value)


def _with(rng: random.Random, tensor: Tensor, value: float) -> Tensor:
    """One number changed, or all."""
    made = tensor.clone().reshape(-1)
    if not len(made):
        return tensor
    try:
        if rng.random() < 0.5:
            made[:] = value
        else:
            made[rng.randrange(len(made))] = value
    except (RuntimeError, OverflowError):
        return tensor  # too large for its type
    return made.reshape(tensor.shape)


# --- running --------------------------------------------------------------------------------------


def make_case(rng: random.Random, name: str | None = None) -> str:
    """A case as text: the door, whether it is made up, and a character for each byte."""
    name = name or rng.choice(DOORS)
    kind = rng.choice(["damaged", "made up"])
    change = damaged if kind == "damaged" else made_up
    return f"{name}/{kind}\n{change(rng, door(name).seed).decode('latin-1')}"


def run_case(text: str) -> str:
    """Opens the door; the outcome in a word.

    Raises:
        Exception: whatever has no name.
        AssertionError: where damage has another meaning, or harm is done.
    """
    head, _, data = text.partition("\n")
    name, _, kind = head.partition("/")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = _load(name, data.encode("latin-1"))
        except GrammaError as error:
            return "refused" if isinstance(error, ValueError) and str(error).strip() else "UNNAMED"
        if kind == "damaged":
            assert door(name).meaning(found) == _meaning(name), "silently something else"
            return "same"
        door(name).use(found)
        return "used"


def warm_up() -> None:
    """Makes what is made once: seeds, and what they mean."""
    for name in DOORS:
        assert issubclass(TensorFileError, GrammaError)
        assert run_case(f"{name}/damaged\n{door(name).seed.decode('latin-1')}") == "same"
        door(name).use(_load(name, door(name).seed))


def limit_memory(headroom: int = HEADROOM) -> None:
    """Bounds the address space to so many MiB above what the process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + (headroom << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--door", choices=DOORS, default=None)
    parser.add_argument("--seconds", type=float, default=5, help="processor time of a case")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warm_up()
    limit_memory()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts: Counter[str] = Counter()
    failures: dict[str, str] = {}
    for number in range(args.cases):
        name = args.door or DOORS[number % len(DOORS)]
        text = make_case(random.Random(f"{args.seed}/{number}"), name)
        head = text.partition("\n")[0]
        try:
            with cpu_limit(args.seconds):
                outcome = run_case(text)
        except SlowCase:
            outcome = "slow"
        except Exception as error:
            outcome = "FAILED"
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(last.filename).name}:{last.lineno}"
            failures.setdefault(
                f"{head}: {type(error).__name__} {str(error)[:100]} at {place}", f"number {number}"
            )
        counts[f"{head.partition('/')[2]} {outcome}"] += 1
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    print(json.dumps({"counts": counts, "failures": failures, "grown_mib": grown}))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
