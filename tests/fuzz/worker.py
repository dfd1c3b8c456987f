# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that runs cases as they are asked for on its standard input,
and tells of each before and after."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress

#: Bytes of memory; a file that asks for more gets a MemoryError, as on a full machine.
_MEMORY = 12 << 30


def main() -> None:
    """Read one request a line, JSON of ``{"files": seed, "long": bool}`` or ``{"calls":
    seed, "n": int}``."""
    with suppress(ImportError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    # What libraries print must not be taken for answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    import dask

    from . import cases

    dask.config.set(num_workers=2)

    def tell(**what) -> None:
        answers.write(json.dumps(what) + "\n")

    tell(ready=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "calls" in request:
            from . import calls

            tell(
                outcomes=[
                    (str(call), *_outcome(came))
                    for call, came in calls.run(request["calls"], request["n"])
                ]
            )
            continue
        case, kind, said = cases.run(
            request["files"], request["long"], lambda what: tell(begun=what)
        )
        tell(case=str(case), format=case.format, kind=kind, said=said)


def _outcome(came) -> tuple[str, str]:
    """Return the kind of a call's outcome as the classifier has it, and the outcome in words."""
    from . import classify

    kinds = {
        "clear": classify.CLEAR,
        "unclear": classify.UNCLEAR,
        "silent": classify.SILENT,
        "taken": classify.OK,
    }
    return kinds[came.kind], str(came)


if __name__ == "__main__":
    main()
