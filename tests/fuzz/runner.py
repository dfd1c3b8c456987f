# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs many cases in worker processes, so that a crash or a hang of one is counted and the next
goes on."""

from __future__ import annotations

import json
import os
import queue
import select
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .classify import CRASH, FOREIGN, HANG, KINDS, UNCLEAR

TESTS = Path(__file__).resolve().parents[1]
# Seconds: for one case, for a worker to begin, and for one call.
LIMIT, _START, _PER_CALL = 20.0, 120.0, 2.0
_BLOCK = 100  # calls that one request makes


def import_path() -> str:
    """Return where worker processes import from: the tests, and what this process was told."""
    return os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))


@dataclass
class Result:
    """What came of one request."""

    seed: int
    subject: str
    kind: str
    what: str
    said: str = ""


class Worker:
    """A worker process, started again after a crash or a hang."""

    def __init__(self, command: tuple[str, ...] = (sys.executable, "-m", "fuzz.worker")):
        self._command, self._process = command, None

    def ask(self, request: dict, limit: float) -> tuple[dict | None, str, str]:
        """Return the answer to a request, or None with `CRASH` or `HANG`, and what was begun."""
        if self._process is None:
            self._start()
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        begun = ""
        # Until it has begun it may import libraries.
        while (
            answer := self._line(limit if begun or "files" not in request else _START)
        ) is not None:
            if "begun" not in answer:
                return answer, "", begun
            begun = answer["begun"]
        kind = HANG if self._process.poll() is None else CRASH
        self.close()
        return None, kind, begun

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> None:
        environment = os.environ | {"PYTHONPATH": import_path()}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(
            self._command, cwd=TESTS, env=environment, bufsize=0, **pipes
        )
        self._rest = b""
        if self._line(_START) is None:
            raise RuntimeError(
                "a worker did not start: run python -m fuzz.worker in the folder tests to see why"
            )

    def _line(self, limit: float) -> dict | None:
        """Return the next answer, None where none comes in time or the process has ended."""
        while b"\n" not in self._rest:
            if not select.select([self._process.stdout], [], [], limit)[0]:
                return None
            read = os.read(self._process.stdout.fileno(), 1 << 16)
            if not read:
                self._process.wait()
                return None
            self._rest += read
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)


def run(
    requests: list[dict], workers: int = 2, progress: Callable[[int], None] = lambda done: None
) -> list[Result]:
    """Return what came of all requests, in their order."""
    waiting, found, lock = queue.SimpleQueue(), {}, threading.Lock()
    for number, request in enumerate(requests):
        waiting.put((number, request))

    def work() -> None:
        worker = Worker()
        try:
            while True:
                try:
                    number, request = waiting.get_nowait()
                except queue.Empty:
                    return
                results = list(_results(worker, request))
                with lock:
                    found[number] = results
                    progress(sum(map(len, found.values())))
        finally:
            worker.close()

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [result for number in sorted(found) for result in found[number]]


def _results(worker: Worker, request: dict) -> Iterator[Result]:
    if "calls" in request:
        answer, kind, _ = worker.ask(request, LIMIT + _START + _PER_CALL * request["n"])
        if answer is None:
            yield Result(request["calls"], "calls", kind, f"one of {request['n']} calls")
            return
        for what, outcome, said in answer["outcomes"]:
            yield Result(request["calls"], "calls", outcome, what, said)
        return
    answer, kind, begun = worker.ask(request, LIMIT)
    if answer is None:
        yield Result(request["files"], begun.partition(",")[0], kind, begun)
    else:
        yield Result(
            request["files"], answer["format"], answer["kind"], answer["case"], answer["said"]
        )


def requests(files: int, calls: int, seed: int, long: bool) -> list[dict]:
    """Return the requests of a run; its cases are told from each other,
    and from those of other runs, by their seeds."""
    listed = [{"files": 1_000_000 * seed + number, "long": long} for number in range(files)]
    return listed + [
        {"calls": 1_000_000 * seed + first, "n": min(_BLOCK, calls - first)}
        for first in range(0, calls, _BLOCK)
    ]


def table(results: list[Result]) -> str:
    """Return the counts of kinds by subject as a table of Markdown."""
    counts = Counter((result.subject, result.kind) for result in results)
    kinds = [*KINDS, *sorted({kind for _, kind in counts} - set(KINDS))]
    kinds = [kind for kind in kinds if any(counts[subject, kind] for subject, _ in counts)]
    subjects = sorted({subject for subject, _ in counts})
    rows = [
        [subject, *(str(counts[subject, kind] or "") for kind in kinds)] for subject in subjects
    ]
    rows.append(
        ["all", *(str(sum(counts[subject, kind] for subject in subjects)) for kind in kinds)]
    )
    lines = [["", *kinds], ["---", *["---:"] * len(kinds)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def unclear_share(results: list[Result]) -> float:
    """Return the share of unclear errors among the cases in which our code ran."""
    ours = [result for result in results if result.kind != FOREIGN]
    return sum(result.kind == UNCLEAR for result in ours) / max(1, len(ours))
