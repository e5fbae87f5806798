"""A scaling law of drafts: acceptance is linear in logarithms of training tokens, draft size and rows.

Yan et al. 2025, "Scaling Laws for Speculative Decoding" (Scylla, arXiv 2505.07858), theorems 1.1 to 1.3,
find acceptance (or decoding speed) log-linear in tokens of training, in the draft's capacity, and in the
batch that is decoded side by side.  Our own reading is one law of all three,

    acceptance = a + b log10(tokens) + c log10(parameters) + d log10(rows),

fitted by least squares.  Intervals are of a bootstrap of residuals (Efron 1979): the runs stay where they
are, and what the law leaves over is dealt out anew, scaled up for the coefficients that were fitted.  They
say how sure the law is *if it holds*; how wrong it is beyond its runs, :func:`largest_left_out` tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from samplers.speculative.target import Floats

QUANTITIES: Final = ("tokens", "parameters", "rows")


@dataclass(frozen=True)
class Run:
    """One trained draft, decoded with so many rows.

    Attributes:
        tokens: that it was trained on.
        parameters: of it that were trained.
        rows: texts decoded side by side.
        acceptance: drafted tokens accepted in a forward, of each row, on texts not trained on.

    Raises:
        ValueError: if one of the first three is not positive.
    """

    tokens: int
    parameters: int
    rows: int
    acceptance: float

    def __post_init__(self) -> None:
        if min(self.tokens, self.parameters, self.rows) <= 0:
            raise ValueError(f"{self}: tokens, parameters and rows must be positive")


class Interval(NamedTuple):
    """An estimate between bounds."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ScalingLaw:
    """A fitted law.

    Attributes:
        names: the coefficients', ``"constant"`` first; quantities that never varied have none.
        coefficients: float64[k], acceptance for each factor of ten, but for the constant.
        draws: float64[draws, k], of the bootstrap.
        residuals: float64[n], what the law leaves over of each run, scaled.
        fixed: the value of each quantity that never varied.
    """

    names: tuple[str, ...]
    coefficients: Floats
    draws: Floats
    residuals: Floats
    fixed: dict[str, float]

    def coefficient(self, name: str, coverage: float = 0.95) -> Interval:
        """A coefficient with its bootstrap interval.

        Raises:
            ValueError: if there is no such coefficient.
        """
        if name not in self.names:
            raise ValueError(f"{name!r} is none of {', '.join(self.names)}: it never varied")
        at = self.names.index(name)
        return _between(float(self.coefficients[at]), self.draws[:, at], coverage)

    def predict(
        self,
        *,
        tokens: float,
        parameters: float,
        rows: float,
        coverage: float = 0.95,
        seed: int = 0,
    ) -> Interval:
        """The acceptance of one run more, with an interval for that run (not for the mean of many).

        Args:
            tokens, parameters, rows: of it, see :class:`Run`.
            coverage: probability that the run falls between the bounds, if the law holds.
            seed: of the residuals drawn.

        Raises:
            ValueError: if a quantity that never varied is another one.
        """
        asked = {"tokens": tokens, "parameters": parameters, "rows": rows}
        for name, value in self.fixed.items():
            if value != asked[name]:
                raise ValueError(f"all runs had {name}={value:g}; nothing tells of {asked[name]:g}")
        x = np.array([1.0, *(np.log10(asked[name]) for name in self.names[1:])])
        noise = np.random.default_rng(seed).choice(self.residuals, len(self.draws))
        return _between(float(x @ self.coefficients), self.draws @ x + noise, coverage)


def _between(value: float, draws: Floats, coverage: float) -> Interval:
    rest = (1 - coverage) / 2
    low, high = np.quantile(draws, [rest, 1 - rest])
    return Interval(value, float(low), float(high))


def fit_law(runs: Sequence[Run], *, draws: int = 2000, seed: int = 0) -> ScalingLaw:
    """Fits the law by least squares.

    Args:
        runs: more than the law has coefficients, one for each quantity that varies and a constant.
        draws: of the bootstrap.
        seed: of it.

    Raises:
        ValueError: if there are too few runs, or quantities vary together so that they cannot be told apart.
    """
    values = {name: {getattr(run, name) for run in runs} for name in QUANTITIES}
    varied = [name for name in QUANTITIES if len(values[name]) > 1]
    names = ("constant", *varied)
    if len(runs) <= len(names):
        raise ValueError(f"{len(runs)} runs do not tell {len(names)} coefficients: {names}")
    x = np.array([[1.0, *(np.log10(getattr(run, n)) for n in varied)] for run in runs])
    y = np.array([run.acceptance for run in runs], np.float64)
    if np.linalg.matrix_rank(x) < len(names):
        raise ValueError(f"{', '.join(varied)} vary together; vary each by itself")
    inverse = np.linalg.pinv(x)
    fitted = inverse @ y
    residuals = y - x @ fitted
    residuals = residuals * np.sqrt(len(runs) / (len(runs) - len(names)))
    dealt = np.random.default_rng(seed).choice(residuals, (draws, len(runs)))
    fixed = {name: float(next(iter(values[name]))) for name in QUANTITIES if name not in varied}
    return ScalingLaw(names, fitted, fitted + dealt @ inverse.T, residuals, fixed)


@dataclass(frozen=True)
class Forecast:
    """What a law said of a run that it was not fitted to.

    Attributes:
        run: as it came.
        said: before.
    """

    run: Run
    said: Interval

    @property
    def error(self) -> float:
        """Acceptance that came, minus what was said."""
        return self.run.acceptance - self.said.value

    @property
    def inside(self) -> bool:
        """Whether it came between the bounds."""
        return self.said.low <= self.run.acceptance <= self.said.high


def largest_left_out(
    runs: Sequence[Run], *, draws: int = 2000, seed: int = 0
) -> tuple[ScalingLaw, list[Forecast]]:
    """Fits the law without the runs of the largest draft, and says how wrong it is about these.

    The largest is that with the most tokens times parameters; all of its runs, with any rows, are left out.

    Raises:
        ValueError: as :func:`fit_law`, for the runs that are left.
    """
    if not runs:
        raise ValueError("no runs")
    most = max(run.tokens * run.parameters for run in runs)
    rest = [run for run in runs if run.tokens * run.parameters < most]
    law = fit_law(rest, draws=draws, seed=seed)
    return law, [
        Forecast(run, law.predict(tokens=run.tokens, parameters=run.parameters, rows=run.rows))
        for run in runs
        if run.tokens * run.parameters == most
    ]
