"""Run the parts of bench/gpu.sh, each in a process with a time limit, and say what they found.

A part that fails or takes too long is told in the JSON line, and the others go on. The line is also
appended to bench/results/gpu.jsonl.
"""

from __future__ import annotations

import argparse
import importlib.metadata as metadata
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results" / "gpu.jsonl"
SECONDS = 465  # of all parts together: 8 minutes with the start and the end of it
CPU_SECONDS = 235
TRAINING = ("bitsandbytes", "datasets", "peft", "pydantic", "transformers", "trl")
#: Packages whose versions are told, by the names that a registry knows.
VERSIONS = (
    "torch", "triton", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "datasets",
    "onnxruntime", "onnxruntime-genai", "llama-cpp-python", "gguf", "auto-round",
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A module of this package.

    Attributes:
        name: the module; it prints one JSON object last: ``faults``, and figures.
        seconds: its time limit, within what is left of all.
        needs: modules without which it is skipped.
    """

    name: str
    seconds: int
    needs: tuple[str, ...]


PARTS = (
    Part("loss_kernels", 70, ("triton",)),
    Part("packing", 60, ("bitsandbytes",)),
    Part("large_model", 120, TRAINING),
    Part("memory_caps", 150, TRAINING),
    Part("marked_tests", 120, ("pytest", *TRAINING)),
    Part("chain", 270, (*TRAINING, "click", "rich")),
)


def find_missing(needs: tuple[str, ...]) -> list[str]:
    """Return the modules that are not installed."""
    return [name for name in needs if importlib.util.find_spec(name) is None]


def run_part(part: Part, flags: list[str], limit: float, logs: Path) -> dict[str, Any]:
    """Run a part in a process group of its own and return its status, seconds and figures."""
    if missing := find_missing(part.needs):
        return {"status": "skipped", "why": f"not installed: {', '.join(missing)}"}
    if limit < 5:
        return {"status": "skipped", "why": "no time left"}
    command = [sys.executable, "-m", f"bench.gpu.{part.name}", *flags]
    said, heard = logs / f"{part.name}.json", logs / f"{part.name}.log"
    began = time.monotonic()
    with said.open("wb") as out, heard.open("wb") as errors:
        child = subprocess.Popen(
            command, stdout=out, stderr=errors, cwd=ROOT, start_new_session=True
        )
        try:
            code: int | None = child.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(child)
    found: dict[str, Any] = {"status": "failed", "seconds": round(time.monotonic() - began, 1)}
    figures = _last_object(said)
    if code is None:
        why = f"over {limit:.0f} s: {_last_words(heard)}"
        return {**(figures or {}), **found, "status": "timeout", "why": why}
    if code or figures is None:
        return {**found, "why": f"exit code {code}: {_last_words(heard)}", **(figures or {})}
    return {**found, "status": "failed" if figures.get("faults") else "ok", **figures}


def _end(child: subprocess.Popen[bytes]) -> None:
    """Leave nothing of a part behind: what it started is in its process group."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    child.wait()


def _last_object(path: Path) -> dict[str, Any] | None:
    for line in reversed(path.read_text(encoding="utf-8", errors="replace").splitlines()):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            return value
    return None


def _last_words(path: Path) -> str:
    return " | ".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-6:])[-700:]


def describe(commit: str | None) -> dict[str, Any]:
    """Return machine, versions and commit, as a row keeps them."""
    versions = {}
    for name in VERSIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    found: dict[str, Any] = {
        "commit": commit or _read_commit(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": versions,
    }
    try:
        import torch
    except ImportError:
        return found
    if torch.cuda.is_available():
        one = torch.cuda.get_device_properties(0)
        found["gpu"] = {
            "name": one.name, "memory_bytes": one.total_memory,
            "capability": f"{one.major}.{one.minor}", "cuda": torch.version.cuda,
        }  # fmt: skip
    return found


def _read_commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def run_all(
    parts: tuple[Part, ...], flags: list[str], seconds: float, logs: Path, stretch: float = 1.0
) -> dict[str, dict[str, Any]]:
    """Run the parts one after the other; what one leaves of its time, the later ones have."""
    began = time.monotonic()
    found = {}
    for part in parts:
        left = seconds - (time.monotonic() - began)
        found[part.name] = run_part(part, flags, min(part.seconds * stretch, left), logs)
        told = found[part.name]
        why = f": {told['why']}" if "why" in told else ""
        print(f"{part.name}: {told['status']}{why}", file=sys.stderr, flush=True)
    return found


def main() -> int:
    """Command line; returns 1 where a part failed."""
    parser = argparse.ArgumentParser(prog="bench/gpu.sh", description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="tiny shapes, no GPU")
    parser.add_argument("--part", action="append", choices=[part.name for part in PARTS])
    parser.add_argument("--out", type=Path, help="folder for the logs and gpu.json")
    parser.add_argument("--commit", help="what the tree is of, where there is no git")
    parser.add_argument("--seconds", type=float, help="of all parts, in place of 8 minutes (4)")
    parser.add_argument("--rows", type=Path, default=RESULTS, help="file the line is appended to")
    args = parser.parse_args()
    logs = args.out or Path(tempfile.mkdtemp(prefix="edgetune-gpu-"))
    began = time.monotonic()
    about = describe(args.commit)
    if not args.cpu and "gpu" not in about:
        print("no CUDA device here; --cpu tries the same at tiny shapes", file=sys.stderr)
        return 2
    chosen = tuple(part for part in PARTS if not args.part or part.name in args.part)
    flags = ["--cpu"] if args.cpu else []
    usual = CPU_SECONDS if args.cpu else SECONDS
    found = run_all(chosen, flags, args.seconds or usual, logs, (args.seconds or usual) / usual)
    failed = [name for name, one in found.items() if one["status"] not in ("ok", "skipped")]
    row = {
        "mode": "cpu" if args.cpu else "cuda", "ok": not failed, "failed": failed, **about,
        "seconds": round(time.monotonic() - began, 1), "parts": found,
    }  # fmt: skip
    line = json.dumps(row)
    (logs / "gpu.json").write_text(line + "\n", encoding="utf-8")
    args.rows.parent.mkdir(parents=True, exist_ok=True)
    with args.rows.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    print(f"logs: {logs}", file=sys.stderr)
    print(line)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
