"""A process that carries out runs of a study, one after another, and says how they go.

It reads a line of JSON for each run from its standard input, and writes lines of JSON about it to its standard output. When its input ends, whether
because it is told to stop or because who started it is gone, it saves what it is doing and stops.
"""

from __future__ import annotations

import _thread
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

ENDED = ("done", "diverged", "refused")  # states of methods that will not be trained any more
Tell = Callable[[dict[str, Any]], None]


class Reporter:
    """Counts the rounds of a run over all its methods, and tells them."""

    def __init__(self, tell: Tell, before: int):
        """before: rounds of methods that were finished before."""
        self._tell, self._sum, self._now = tell, before, 0

    def begin(self, title: str, rounds: int, done: int) -> None:
        self._sum, self._now = self._sum + self._now, done
        self._tell({"event": "round", "method": title, "done": self._sum + done})

    def progress(self, title: str, round: int, note: str) -> None:
        self._now = round
        self._tell({"event": "round", "method": title, "done": self._sum + round})

    def end(self, title: str, state: str) -> None: ...


def carry_out(folder: Path, threads: int | None, command: str, content: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """One run, from the start or from where it stopped; returns how it ended, as done, failed (with why) or stopped."""
    from atoll.core.errors import AtollError
    from atoll.study.run import Interrupted, execute, make_plan, open_plan
    from atoll.study.spec import make_spec

    before = time.monotonic()
    try:
        plan = open_plan(folder, leave_out=True) if (folder / "spec.toml").exists() else make_plan(make_spec(content), leave_out=True)
        if threads:
            plan = replace(plan, spec=plan.spec.model_copy(update={"threads": threads}))
        execute(plan, folder, Reporter(tell, rounds_of_finished(folder)), command)
        end: dict[str, Any] = {"state": "done"}
    except (Interrupted, KeyboardInterrupt):
        end = {"state": "stopped"}
    except AtollError as error:
        end = {"state": "failed", "why": str(error)}
    except Exception as error:  # whatever it is, the other runs go on
        traceback.print_exc()
        first = (str(error).strip() or "no message").splitlines()[0]
        end = {"state": "failed", "why": f"{type(error).__name__}: {first} (workers.log has more)"}
    return {"event": "end", **end, "seconds": time.monotonic() - before}


def rounds_of_finished(folder: Path) -> int:
    """Rounds of the methods of a run that will not be trained any more."""
    path = folder / "status.json"
    status = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return sum(entry["rounds"] for entry in status.values() if entry["state"] in ENDED)


def main() -> None:
    """Runs until the input ends."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what methods print is not taken for a message
    jobs: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def tell(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    def listen() -> None:
        for line in sys.stdin:
            jobs.put(json.loads(line))
        jobs.put(None)
        _thread.interrupt_main()

    threading.Thread(target=listen, daemon=True).start()
    try:
        while (job := jobs.get()) is not None:
            tell(carry_out(Path(job["folder"]), job["threads"], job["command"], job["spec"], tell))
    except (KeyboardInterrupt, BrokenPipeError):
        pass  # told to stop between two runs, or nobody listens any more
    finally:
        os._exit(0)  # without waiting for threads: everything is saved, and nobody reads what could still come


if __name__ == "__main__":
    main()
