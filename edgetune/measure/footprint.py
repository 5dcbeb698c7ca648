"""Peak memory and time per token of running a file, in a process that does nothing else.

    echo '{"model": …, "threads": …, "prompt": […], "new_tokens": …, "repeats": …}' |
        python -m edgetune.measure.footprint

The process answers with one JSON line, a :class:`Footprint`. Its figures are bench's
``peak_rss_bytes`` and ``tpot_ms_p50``: it does what a worker does first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetune.errors import EdgetuneError
from edgetune.measure.latency import measure_running, peak_rss_bytes
from edgetune.measure.worker import die_with_parent
from edgetune.measure.workers import describe_end, worker_environment
from edgetune.models.hardware import count_threads
from edgetune.runtimes import find_opener

if TYPE_CHECKING:
    from edgetune.recipe import Requests  # pydantic's 12 MB are not the file's


@dataclass(frozen=True)
class Footprint:
    """What one process measured.

    Attributes:
        peak_rss_bytes: the most memory it held, the file's own pages among it.
        before_rss_bytes: what of that it held before the file was opened: Python and the runtime.
        tpot_ms: median time from one token to the next.
        runtime: ``llama.cpp`` or ``onnxruntime``.
        threads: CPU threads it computed with.
    """

    peak_rss_bytes: int
    before_rss_bytes: int
    tpot_ms: float
    runtime: str
    threads: int


def measure_file(path: Path, requests: Requests, prompt: Sequence[int]) -> Footprint:
    """Run a file in a fresh process on this machine's CPU.

    Args:
        path: GGUF file or ONNX folder.
        requests: how often it is asked, and how long its answers are: at least two tokens.
        prompt: token ids.

    Raises:
        InputError: the file cannot be loaded.
        EdgetuneError: the process died; its last words are quoted.
    """
    threads = requests.threads or count_threads()
    job = {
        "model": str(path), "threads": threads, "prompt": list(prompt),
        "new_tokens": requests.new_tokens, "repeats": requests.repeats,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "edgetune.measure.footprint"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        env={**os.environ, **worker_environment(threads)},
        check=False,
    )
    if done.returncode != 0:
        raise describe_end(path.name, path, done.returncode, done.stderr)
    return Footprint(**json.loads(done.stdout.splitlines()[-1]))


def run_job(job: dict[str, Any]) -> Footprint:
    """Return what running the job's file takes, measured in this process."""
    opener = find_opener(Path(job["model"]))
    before = peak_rss_bytes()
    runtime, figures = measure_running(
        partial(opener, job["threads"], "cpu"), job["prompt"], job["new_tokens"], job["repeats"]
    )
    peak, tpot = (figures[name][0].value for name in ("peak_rss_bytes", "tpot_ms_p50"))
    found = Footprint(int(peak), before, tpot, runtime.name, runtime.threads)
    runtime.close()
    return found


def main() -> int:
    """Run the job on stdin; return the exit code."""
    die_with_parent()
    try:
        found = run_job(json.load(sys.stdin))
    except EdgetuneError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(asdict(found)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
