"""Start worker processes; those that need torch without importing it again each time.

Importing torch, transformers and PEFT takes eight to twelve seconds of two slow cores, often
longer than measuring a small model. One process imports them and loads nothing; each Hugging Face
model is measured in a fork of it, and so still has a process, a load time and a peak memory of its
own. GGUF and ONNX files get a fresh process, which never sees torch.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from edgetune.errors import EdgetuneError, InputError
from edgetune.measure.worker import die_with_parent
from edgetune.measure.worker import main as run_worker
from edgetune.runtimes.child import Child, read_frame, write_frame
from edgetune.runtimes.gpu import release_gpu_pool

STDERR_LINES = 12  # of a worker that died, quoted in the error


class Workers:
    """Runs one worker at a time; the process that is forked starts when it is first needed."""

    def __init__(self, threads: int) -> None:
        self._environment = {**os.environ, **worker_environment(threads)}
        self._torch: Child | None = None

    def __enter__(self) -> Workers:
        release_gpu_pool()  # this process may have trained there, and a worker is to load there
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if self._torch is not None:
            self._torch.stop()

    def run(self, job: Path, stderr: Path) -> int:
        """Run a fresh worker on ``job`` with its output in ``stderr``.

        Returns:
            its exit code; −N if signal N ended it.
        """
        with stderr.open("wb") as output:
            return subprocess.run(
                [sys.executable, "-m", "edgetune.measure.worker", str(job)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                check=False,
            ).returncode

    def fork(self, job: Path, stderr: Path) -> int:
        """Do the same in a fork of the process that has imported torch."""
        if self._torch is None:
            with stderr.open("wb") as output:
                command = [sys.executable, "-m", "edgetune.measure.workers"]
                self._torch = Child(command, output, self._environment)
        try:
            self._torch.send({"job": str(job), "output": str(stderr)})
        except BrokenPipeError:
            return self._torch.wait()
        frame = self._torch.receive()
        return int(frame[0]["exit_code"]) if frame else self._torch.wait()


def worker_environment(threads: int) -> dict[str, str]:
    """Return what a process that measures finds in its environment besides this one's own."""
    return {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}


def describe_end(name: str, path: Path, code: int, stderr: str) -> EdgetuneError:
    """Return the error of a worker that did not end well.

    Args:
        name: of the model that it measured.
        path: where that lies.
        code: its exit code; -N if signal N ended it.
        stderr: its stderr, whose last lines are quoted.
    """
    last = "\n".join(stderr.strip().splitlines()[-STDERR_LINES:])
    if code == InputError.exit_code:
        return InputError(f"'{name}' cannot be measured: {last}")
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return EdgetuneError(
        f"the process measuring '{name}' ended {how}:\n{last}",
        where=str(path),
        hint="signal 9 is most often a lack of memory" if code == -9 else "",
    )


def serve(jobs: BinaryIO, answers: BinaryIO) -> None:
    """Answer each message, a job and its output file, with the exit code of a fork that ran it."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who asks, and who kills us
    gc.disable()  # all that is allocated by imports stays
    import edgetune.models.adapters  # PEFT
    import edgetune.runtimes.pytorch  # noqa: F401 - torch and transformers

    gc.freeze()  # or the first collection of a child would copy every page
    gc.enable()
    while frame := read_frame(jobs):
        child = os.fork()
        if child == 0:
            _run_and_exit(frame[0]["job"], frame[0]["output"])
        _, status = os.waitpid(child, 0)
        write_frame(answers, {"exit_code": os.waitstatus_to_exitcode(status)})


def _run_and_exit(job: str, stderr: str) -> None:
    code = 1
    try:
        nothing = os.open(os.devnull, os.O_RDONLY)
        output = os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(nothing, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        code = run_worker([job])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
