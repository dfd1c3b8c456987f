# SPDX-License-Identifier: GPL-3.0-or-later
"""The long run: ``python -m tests.fuzz --files 1000 --calls 1500 --faults 200 --seed 7`` in the
folder of the project."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

# The makers stand beside this folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz import faults, runner
from fuzz.classify import NEVER, UNCLEAR

#: Shares of unclear errors that are let pass, among the damaged files and among the calls.
_UNCLEAR = {"files": 0.02, "calls": 0.01}


def main() -> int:
    """Run, print a table and each case that should not be,
    and return 1 where there are too many of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--files", type=int, default=0, help="damaged files")
    parser.add_argument("--calls", type=int, default=0, help="calls with a wrong argument")
    parser.add_argument(
        "--faults", type=int, default=0, help="kills, interrupts and full disks, each"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--case", type=int, help="the seed of one damaged file, to run it here and see its error"
    )
    given = parser.parse_args()
    if given.case is not None:
        from fuzz import cases

        print(*cases.run(given.case, True, print), sep="\n")
        return 0
    begun = time.monotonic()

    def progress(done: int) -> None:
        if sys.stderr.isatty() or not done % 100:
            print(
                f"\r{done} done, {time.monotonic() - begun:.0f} s",
                end="",
                file=sys.stderr,
                flush=True,
            )

    asked = {"files": (given.files, 0), "calls": (0, given.calls)}
    results = {
        name: runner.run(runner.requests(*n, given.seed, long=True), given.workers, progress)
        for name, n in asked.items()
    }
    every = [*results["files"], *results["calls"]]
    struck = faults.run(given.faults, given.seed) if given.faults else []
    bad = [one for one in every if one.kind in (UNCLEAR, *NEVER)] + [
        one for one in struck if one.kind in NEVER
    ]
    print("\n")
    for one in sorted(bad, key=lambda one: (one.kind, one.subject)):
        print(f"{one.kind}: seed {one.seed}, {one.what}\n    {one.said[:300]}")
    if every:
        print("\n" + runner.table(every))
    if struck:
        print("\n" + runner.table(struck))
    shares = {name: runner.unclear_share(found) for name, found in results.items() if found}
    for name, share in shares.items():
        print(
            f"unclear errors of {name}: {100 * share:.2f} %, at most {100 * _UNCLEAR[name]:g} % "
            "may be"
        )
    print(f"seed {given.seed}, {time.monotonic() - begun:.0f} s")
    failed = any(one.kind in NEVER for one in [*every, *struck]) or any(
        share > _UNCLEAR[name] for name, share in shares.items()
    )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
