"""A smaller model drafts, and its probabilities count.

Any causal language model with the same vocabulary will do.  It keeps its own cache of keys and
values for each row, follows the text by the longest common prefix, and draws a tree from its own
distribution q within what the target allows (:mod:`samplers.drafters.recursive`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, TypeAlias, get_args

from constrain.arguments import check_model
from constrain.models import context_length, text_config
from samplers.drafters.base import Context, Drafter
from samplers.drafters.recursive import Predict, draw_beam, draw_constant, law_after
from samplers.speculative.common import common_length
from samplers.speculative.law import Law
from samplers.speculative.scorer import Request, Scores, TreeScorer
from samplers.speculative.tree import ROOT, Tree

Kind: TypeAlias = Literal["rsd-s", "rsd-c", "chain"]


class Follower:
    """A model whose cache keeps up with a text that goes on, goes back, or is another one.

    Args:
        model: a causal language model of ``transformers``.
    """

    def __init__(self, model: Any) -> None:
        self._scorer = TreeScorer(model)
        self._kept: list[int] = []
        self._pending: list[int] = []

    @property
    def kept(self) -> Sequence[int]:
        """The tokens whose keys and values are in the cache."""
        return self._kept

    @property
    def forwards(self) -> int:
        """Calls of the model."""
        return self._scorer.forwards

    def follow(self, tokens: Sequence[int]) -> None:
        """Goes back to the longest common prefix with a text; its last token is never kept."""
        common = min(common_length(self._kept, tokens), len(tokens) - 1)
        self._scorer.rollback(0, common)
        self._kept = list(tokens[:common])
        self._pending = list(tokens[common:])

    def score(self, tree: Tree) -> Scores:
        """Logits after the text's last token and after every node of a tree; keeps the text."""
        scores = self._scorer.score([Request(self._pending, tree)])
        self._scorer.commit([[]])
        self._kept += self._pending[:-1]
        self._pending = self._pending[-1:]
        self._scorer.rollback(0, len(self._kept))
        return scores


class DraftModel(Drafter):
    """Draws trees from a smaller model.

    Args:
        model: a causal language model of ``transformers`` with the same vocabulary, in ``eval``
            mode; it may be on another device.
        tree: ``"rsd-s"`` spends the nodes where the draft is in doubt, by stochastic beam search;
            ``"rsd-c"`` gives every node of a level the same number of children; ``"chain"`` draws
            one token after another.
        branching: children of each node, level by level, for ``"rsd-c"``.
        width: nodes of a level, for ``"rsd-s"``.
        depth: levels, for ``"rsd-s"`` and ``"chain"``.
        masked: whether q is limited to what the target allows.  It costs a mask for every node
            that gets children, which verification mostly needs again; without it, more drafts are
            rejected.

    Raises:
        ValueError: if a number is not positive, or ``tree`` is none of the three.
        UnsupportedModel: if the model's cache cannot take tokens back.
    """

    name: ClassVar[str] = "draft_model"
    runs_model: ClassVar[bool] = True
    draws: ClassVar[bool] = True

    def __init__(
        self,
        model: Any,
        *,
        tree: Kind = "rsd-s",
        branching: Sequence[int] = (2, 1, 1),
        width: int = 3,
        depth: int = 4,
        masked: bool = True,
    ) -> None:
        if tree not in get_args(Kind):
            raise ValueError(f"tree={tree!r}: must be one of {', '.join(get_args(Kind))}")
        if not branching or min(*branching, width, depth) < 1:
            raise ValueError(
                f"branching={tuple(branching)}, width={width}, depth={depth}: "
                "must be positive numbers"
            )
        check_model(model, type(self).__name__)
        TreeScorer(model)  # says at once if the model will not do
        self.model = model
        self.tree = tree
        self.width = width
        self.branching = (1,) * depth if tree == "chain" else tuple(branching)
        self.depth = depth if tree != "rsd-c" else len(self.branching)
        self.masked = masked
        self._limit = context_length(model)
        self._followers: dict[int, Follower] = {}
        self._columns = 0
        self._checked: Any = None

    def propose(self, context: Context) -> None:
        """Draws a tree; at temperature 0, takes the draft's likeliest tokens.

        Raises:
            ValueError: if the draft's vocabulary is not the verifier's.
        """
        self._check(context)
        drawn = not context.sampling.greedy
        if (drawn and context.tree.children(ROOT)) or not self._fits(context):
            return
        follower = self._followers.setdefault(context.row, Follower(self.model))
        follower.follow(context.tokens)
        predict = self._predict(context, follower)
        if self.tree == "rsd-s":
            draw_beam(context, predict, self.width, self.depth, self.name, self._columns)
        else:
            draw_constant(context, predict, self.branching, self.name, self._columns)

    def reset(self) -> None:
        """Empties the caches."""
        self._followers.clear()

    def _predict(self, context: Context, follower: Follower) -> Predict:
        def laws(nodes: Sequence[int]) -> list[Law | None]:
            scores = follower.score(context.tree)
            return [
                law_after(
                    context,
                    node,
                    scores.at(0, node)[: self._columns],
                    masked=self.masked,
                )
                for node in nodes
            ]

        return laws

    def _fits(self, context: Context) -> bool:
        return self._limit is None or len(context.tokens) + self.depth <= self._limit

    def _check(self, context: Context) -> None:
        """Once for each verifier: the same vocabulary."""
        verifier = context.scorer.model if context.scorer is not None else None
        if self._columns and verifier is self._checked:
            return
        own = columns(self.model)
        other = own if verifier is None else columns(verifier)
        known = len(context.tokenizer) if _sized(context.tokenizer) else None
        if own != other and (known is None or min(own, other) < known):
            raise ValueError(
                f"the draft model has {own:,} tokens and the model {other:,}; "
                "a draft needs the same vocabulary"
            )
        self._columns = min(own, other)  # they may differ in rows that stand for no token
        self._checked = verifier


def columns(model: Any) -> int:
    """The number of tokens a model knows, rows that only fill up included."""
    return int(text_config(model).vocab_size)


def _sized(tokenizer: Any) -> bool:
    return tokenizer is not None and hasattr(tokenizer, "__len__")
