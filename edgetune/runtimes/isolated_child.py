"""Load one model and answer what :class:`edgetune.runtimes.isolated.Isolated` asks of it.

python -m edgetune.runtimes.isolated_child PATH THREADS DEVICE CPU_SECONDS_TO_LOAD BYTES_OF_MEMORY
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np

from edgetune.errors import EdgetuneError
from edgetune.runtimes import find_opener
from edgetune.runtimes.child import read_frame, write_frame


def main() -> None:
    """Answer until the input ends."""
    path, threads, device = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    seconds, memory = float(sys.argv[4]), int(sys.argv[5])
    # What C code prints must not get between the frames.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        opener = find_opener(path)
        _limit_memory(memory)
        # CPU time, not wall time: a busy machine makes no file guilty. Without a handler SIGPROF
        # ends the process even inside a loop in C.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        runtime = opener(threads, device)
        signal.setitimer(signal.ITIMER_PROF, 0)
    except EdgetuneError as error:
        write_frame(answers, _failure(error))
        return
    write_frame(answers, {"name": runtime.name})
    while frame := read_frame(sys.stdin.buffer):
        job = frame[0]
        try:
            value = getattr(runtime, job["method"])(*job["arguments"])
        except EdgetuneError as error:
            write_frame(answers, _failure(error))
        except MemoryError:
            what = EdgetuneError("it needs more memory than its size explains", where=str(path))
            write_frame(answers, _failure(what))
        else:
            if isinstance(value, np.ndarray):
                write_frame(answers, {}, value)
            else:
                write_frame(answers, {"value": value})
    runtime.close()


def _limit_memory(extra: int) -> None:
    """Allow ``extra`` bytes of addresses beyond what the imports took."""
    if sys.platform != "linux":
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + extra
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _failure(error: EdgetuneError) -> dict[str, str | None]:
    return {
        "error": type(error).__name__, "what": error.what, "where": error.where, "hint": error.hint,
    }  # fmt: skip


if __name__ == "__main__":
    main()
