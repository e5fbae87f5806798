"""What a product of a draft's matrix with a few states takes: PyTorch's and the kernel's, on one thread.

Between two products as much memory is read as the model's forward reads, so that no cache holds the matrix.
The table has medians of ``--repeats`` products in milliseconds, by dtype of the weights, rows and states.

Usage: ``python benchmarks/draft_products.py [--inner 576] [--repeats 40]``
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from reporting import table
from torch.nn.functional import linear

from samplers.drafters.learned.products import FEW, Matrix

MEGABYTES = 270
"""Size of the weights of SmolLM2-135M in bfloat16."""
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def milliseconds(
    work: Callable[[torch.Tensor], object],
    states: torch.Tensor,
    between: torch.Tensor,
    repeats: int,
) -> float:
    """The median of a product's processor time."""
    found = []
    for _ in range(repeats):
        between.sum()
        began = time.process_time()
        work(states)
        found.append(1000 * (time.process_time() - began))
    return median(found)


def compared(name: str, rows: int, inner: int, repeats: int) -> list[dict[str, object]]:
    """Lines of the table for one matrix."""
    weight = torch.randn(rows, inner).to(DTYPES[name])
    between = torch.ones(MEGABYTES << 18)
    kernel = Matrix(weight)

    def plain(states: torch.Tensor) -> torch.Tensor:
        return linear(states.to(weight.dtype), weight).float()

    lines: list[dict[str, object]] = []
    for count in range(1, FEW + 1):
        states = torch.randn(count, inner)
        theirs = milliseconds(plain, states, between, repeats)
        ours = milliseconds(kernel, states, between, repeats)
        lines.append(
            {
                "weights": name,
                "rows": f"{rows:,}",
                "states": count,
                "PyTorch, ms": f"{theirs:.2f}",
                "kernel, ms": f"{ours:.2f}",
                "times": f"{theirs / ours:.1f}",
            }
        )
    return lines


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inner", type=int, default=576, help="numbers of a state")
    parser.add_argument("--repeats", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    with torch.no_grad():
        for name in DTYPES:
            for rows in (options.inner, 8_192):
                lines += compared(name, rows, options.inner, options.repeats)
    print(table(lines))


if __name__ == "__main__":
    main()
