"""Comparisons with other programs on ever new random cases, until the time is over.

Schemas against jsonschema, regular expressions against ``re``, Lark grammars against lark, masks against a
brute-force test of prefixes, budgets against enumeration: the property tests of the suite, one file after
the other, each round with another seed.  What hypothesis finds it makes small and keeps in ``.hypothesis``,
which it tries first in the next run; a case that was found becomes a test.  Exit status 1 if there is any.

Usage: ``python tests/fuzz_comparisons.py --seconds 300 [--seed 1]``, as ``make fuzz SECONDS=600`` does.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

COMPARISONS: Final = {
    "schemas, against jsonschema and by brute force": (
        "test_laws_json_schema.py",
        "test_json_schema_keywords.py",
        "test_json_schema_unions.py",
        "test_json_formats.py",
        "test_laws_counted.py",
        "test_laws_bags.py",
        "test_uniqueness.py",
    ),
    "regular expressions, against re": ("test_regex_agreement.py", "test_laws_regex.py"),
    "Lark, against lark": ("test_frontend_lark.py", "test_laws_lark.py", "test_layout.py"),
    "GBNF, choices, spans": (
        "test_laws_gbnf.py",
        "test_laws_choices.py",
        "test_laws_substrings.py",
        "test_laws_ir.py",
    ),
    "masks within budgets, against enumeration": ("test_budget_masks.py", "test_mask_kernels.py"),
}


def run(file: Path, seed: int, seconds: float) -> int | None:
    """Exit status of one file's tests with new examples; ``None`` where the time did not suffice."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "--hypothesis-profile=random"]
    command += [f"--hypothesis-seed={seed}", str(file)]
    environment = {"GRAMMA_EXAMPLES": "20", "OMP_NUM_THREADS": "1"} | os.environ
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=max(seconds, 1)
        )
    except subprocess.TimeoutExpired:
        return None
    last = done.stdout.strip().splitlines()[-1:] or ["no output"]
    print(f"{file.name}, seed {seed}: {last[0]}", flush=True)
    if done.returncode:
        print(done.stdout[-6_000:], done.stderr[-2_000:], flush=True)
    return done.returncode


def main() -> int:
    """Goes through the files in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, help="of the first round; by default another each time")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(2**31) if options.seed is None else options.seed
    end = time.monotonic() + options.seconds
    folder = Path(__file__).parent
    files = [folder / name for names in COMPARISONS.values() for name in names]
    random.Random(seed).shuffle(files)  # short runs see other files each time
    found = finished = 0
    while time.monotonic() < end:
        for file in files:
            outcome = run(file, seed, end - time.monotonic())
            finished += outcome is not None
            found += bool(outcome)
            if time.monotonic() >= end:
                break
        seed += 1
    print(f"{finished} runs of {len(files)} files, {found} with a difference")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
