"""Makes a draft model of the first layers of a model.

Embedding, the first layers, the last norm and the output embedding are copied; nothing is trained, so
that such a draft says little of use before it has learned.  ``--texts`` lets it learn as
``OnlineDistilled`` does in use: from the places where the model contradicts it.

Usage::

    python examples/draft_from_layers.py --layers 10 --out draft
    python examples/draft_from_layers.py --layers 10 --texts 20 --out learned

The folder is one of ``transformers``: ``DraftModel(load_model("draft")[0])``, or ``--draft-model draft``
of ``benchmarks/speculative.py``.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from train_medusa import Ids, prepared, requests

from constrain import load_model
from constrain.models import DEFAULT_MODEL
from samplers import OnlineDistilled, SpeculativeBackend
from samplers.sample import Sample
from samplers.speculative.law import Sampling
from samplers.speculative.target import Target


def first_layers(model: Any, count: int) -> Any:
    """A model of the first layers of one, with weights of its own.

    Raises:
        ValueError: if the model has no more layers than that, or is not built as Llama is.
    """
    layers = getattr(getattr(model, "model", None), "layers", None)
    if layers is None:
        raise ValueError(f"{type(model).__name__} is not built of model.layers, as Llama is")
    if not 1 <= count < len(layers):
        raise ValueError(f"{count} layers: the model has {len(layers)}, the draft needs fewer")
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = count
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:count]
    made = type(model)(config).to(model.dtype)
    known = made.state_dict().keys()
    made.load_state_dict({k: v for k, v in model.state_dict().items() if k in known})
    made.generation_config = copy.deepcopy(model.generation_config)
    return made.eval()


def learn(
    drafter: OnlineDistilled,
    model: Any,
    tokenizer: Any,
    asked: Iterable[tuple[Ids, Target]],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int = 0,
) -> list[Sample]:
    """Texts of the model, drafted by a draft that learns from them.

    Every step drafts, whether or not that pays.
    """
    backend = SpeculativeBackend(model, tokenizer, [drafter], adaptive=False)
    out: list[Sample] = []
    for number, (ids, target) in enumerate(asked):
        out += backend.generate(
            ids,
            target,
            max_new_tokens=max_new_tokens,
            sampling=Sampling(temperature),
            seed=1000 * seed + number,
        )
    drafter.learn()
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes the draft, has it learn, saves it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="a folder")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or folder")
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--texts", type=int, default=0, help="to learn from")
    parser.add_argument("--tokens", type=int, default=128, help="of each text, at most")
    parser.add_argument("--every-steps", type=int, default=8, help="steps of a gradient step")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="of torch")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    model, tokenizer = load_model(options.model)
    draft = first_layers(model, options.layers)
    if options.texts:
        draft = draft.float()
        drafter = OnlineDistilled(
            draft, every_steps=options.every_steps, learning_rate=options.learning_rate
        )
        began = time.perf_counter()
        asked = prepared(requests(options.texts, options.seed), model, tokenizer)
        made = learn(
            drafter,
            model,
            tokenizer,
            track(asked, "texts", total=options.texts, console=Console(stderr=True)),
            max_new_tokens=options.tokens,
            temperature=options.temperature,
            seed=options.seed,
        )
        print(
            f"{len(drafter.losses)} gradient steps in {time.perf_counter() - began:.0f} s; loss "
            f"{drafter.losses[0]:.2f}, at last {drafter.losses[-1]:.2f}"
        )
        print("tokens per forward, text by text:", end="")
        print("".join(f" {s.stats.tokens / s.stats.forwards:.2f}" for s in made))
    draft.to(model.dtype).save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    print(f"saved as {options.out}")


if __name__ == "__main__":
    main()
