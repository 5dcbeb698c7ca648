"""Do clients that nobody here wrote load our files untouched, and answer as the model does?

    python bench/clients.py --run runs/quickstart --json

Takes what a run exported and asks each client of :data:`CLIENTS` the first test rows, greedily. The
reference is plain transformers on the merged folder in float32. Prints per client and file how many
answers are the same text; for lossless files (F32, F16, fp32) all must be, and for quantized files
all must be those of edgetune's own runtime to the same file. npm packages and an environment with
transformers 4 are put into ``--cache`` (EDGETUNE_CLIENTS) at the first run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RUNNERS = ROOT / "bench" / "clients"
sys.path[:0] = [str(ROOT), str(RUNNERS)]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from browser import ask_browser, find_chromium  # noqa: E402
from run_folder import find_files, find_questions, own_answers  # noqa: E402

RESULTS = ROOT / "bench" / "results" / "clients.jsonl"
CACHE = Path(os.environ.get("EDGETUNE_CLIENTS") or Path.home() / ".cache/edgetune/clients")
LOSSLESS = ("F32", "F16", "fp32")
SECONDS = 900.0  # for all the answers of one client to one file
_SERVER = "fastapi uvicorn starlette-context sse-starlette pydantic-settings"
#: Threads wait for each other in a loop: minutes for an answer on a busy machine.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
Job = dict[str, Any]


@dataclass(frozen=True)
class Client:
    """One row: a client, what files it takes, and how it is asked.

    Attributes:
        name: of the client.
        kinds: ``gguf``, ``onnx``, ``merged``.
        ask: returns the answers to a job.
        missing: says why it cannot be asked here, or nothing.
    """

    name: str
    kinds: tuple[str, ...]
    ask: Callable[[Job], list[str]]
    missing: Callable[[], str | None]


def run_json(command: Sequence[object]) -> list[str]:
    """Run a client's program and return the JSON list on its last line.

    Raises:
        RuntimeError: it failed; the end of what it said.
    """
    try:
        done = subprocess.run(
            [*map(str, command)], capture_output=True, text=True, timeout=SECONDS, check=False,
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": ""},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"no answer in {SECONDS:.0f} s") from error
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-600:] or f"exit code {done.returncode}")
    return [str(one) for one in json.loads(done.stdout.strip().splitlines()[-1])]


def ask_program(program: Callable[[], list[object]], runner: str) -> Callable[[Job], list[str]]:
    """Return what asks a runner's program, which reads its job from a file."""

    def ask(job: Job) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "job.json"
            path.write_text(json.dumps(job), encoding="utf-8")
            script = RUNNERS / runner
            if script.suffix == ".mjs":  # packages are looked for beside the script
                script = Path(shutil.copy(script, CACHE / runner))
            return run_json([*program(), script, path])

    return ask


def ask_page(runner: str) -> Callable[[Job], list[str]]:
    """Return what asks a runner's page in Chromium."""
    return lambda job: ask_browser(RUNNERS / runner, job, CACHE, SECONDS)


def ask_server(command: Callable[[Job, int], list[object]]) -> Callable[[Job], list[str]]:
    """Return what asks an OpenAI server over HTTP, with its own default temperature."""

    def ask(job: Job) -> list[str]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        env = {**os.environ, "PYTHONPATH": str(CACHE / "server")}
        with tempfile.TemporaryFile() as said:
            server = subprocess.Popen(
                [*map(str, command(job, port))], stdout=said, stderr=said, env=env
            )
            try:
                return [_post(port, turns, job["tokens"], server) for turns in job["questions"]]
            except (OSError, KeyError) as error:
                said.seek(0)
                text = said.read().decode(errors="replace")[-600:]
                raise RuntimeError(f"{error}: {text}") from error
            finally:
                server.terminate()
                server.wait(30)

    return ask


def _post(port: int, messages: object, tokens: int, server: subprocess.Popen[bytes]) -> str:
    body = json.dumps({"messages": messages, "max_tokens": tokens, "temperature": 0}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions", body, {"Content-Type": "application/json"}
    )
    for _ in range(240):
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return str(json.load(answer)["choices"][0]["message"]["content"])
        except OSError:  # not up yet, or 503 while it loads
            if server.poll() is not None:
                raise
            time.sleep(0.5)
    raise OSError("the server does not come up")


def _llama_server() -> str | None:
    tools = os.environ.get("LLAMA_CPP_TOOLS")
    return shutil.which("llama-server", path=tools) if tools else shutil.which("llama-server")


def _npm(package: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        if shutil.which("node") is None:
            return "no node here"
        there = (CACHE / "node_modules" / package / "package.json").is_file()
        return None if there else f"no {package} in {CACHE}"

    return missing


def _page(package: str) -> Callable[[], str | None]:
    return lambda: (None if find_chromium() else "no chromium here") or _npm(package)()


def _python4() -> Path:
    return CACHE / "venv4" / "bin" / "python"


def _is_there(path: Callable[[], Path]) -> Callable[[], str | None]:
    return lambda: None if path().exists() else f"no {path()}"


CLIENTS = (
    Client("node-llama-cpp", ("gguf",), ask_program(lambda: ["node"], "node_llama_cpp.mjs"),
           _npm("node-llama-cpp")),
    Client("wllama in Chromium", ("gguf",), ask_page("wllama_web.mjs"), _page("@wllama/wllama")),
    Client("llama-cpp-python's server", ("gguf",), ask_server(
        lambda job, port: [sys.executable, "-m", "llama_cpp.server", "--model", job["path"],
                           "--n_threads", 1, "--n_ctx", 512, "--port", port]),
           _is_there(lambda: CACHE / "server")),
    Client("llama-server", ("gguf",), ask_server(
        lambda job, port: [_llama_server(), "-m", job["path"], "-t", 1, "-c", 512, "--port", port]),
           lambda: None if _llama_server() else "no llama-server: set LLAMA_CPP_TOOLS"),
    Client("transformers.js in node", ("onnx",),
           ask_program(lambda: ["node"], "transformers_node.mjs"),
           _npm("@huggingface/transformers")),
    Client("transformers.js in Chromium", ("onnx",), ask_page("transformers_web.mjs"),
           _page("@huggingface/transformers")),
    Client("onnxruntime-genai", ("onnx",), ask_program(lambda: [sys.executable], "run_genai.py"),
           lambda: None),
    Client("optimum-onnx 0.1 and transformers 4.57", ("onnx",),
           ask_program(lambda: [_python4()], "run_transformers.py"), _is_there(_python4)),
    Client("transformers 4.57", ("merged", "gguf"),
           ask_program(lambda: [_python4()], "run_transformers.py"), _is_there(_python4)),
)  # fmt: skip


def install() -> None:
    """Put the clients' packages into the cache folder, where they are not there yet.

    npm runs no package's scripts; what needs a binary finds it in a package of its own.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    if shutil.which("npm") and not (CACHE / "node_modules").is_dir():
        shutil.copy(RUNNERS / "package.json", CACHE / "package.json")
        npm = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(npm, cwd=CACHE, check=True, stdout=sys.stderr)
    if not _python4().exists():
        venv = CACHE / "venv4"
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        pip = [_python4(), "-m", "pip", "install", "-q", "-r", RUNNERS / "requirements-4.txt"]
        subprocess.run(pip, check=True, stdout=sys.stderr)
    if not (CACHE / "server").is_dir():
        pip = [sys.executable, "-m", "pip", "install", "-q", "--target", CACHE / "server"]
        subprocess.run([*pip, *_SERVER.split()], check=True, stdout=sys.stderr)


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Ask every client, and return a row for each with each file that it takes."""
    merged, files = find_files(args.run)
    job = {"questions": find_questions(args.run, args.rows), "tokens": args.tokens}
    reference = run_json_of(sys.executable, job | {"path": str(merged)})
    rows = []
    for client in CLIENTS:
        if args.client and client.name not in args.client:
            continue
        why = client.missing()
        for scheme, (kind, path) in files.items():
            if kind not in client.kinds or (args.scheme and scheme not in args.scheme):
                continue
            row: dict[str, Any] = {"client": client.name, "file": scheme, "rows": len(reference)}
            start = time.perf_counter()
            try:
                if why:
                    raise LookupError(why)
                answers = client.ask(job | {"path": str(path)})
                row |= {"loads": True, "same": _count_equal(answers, reference)}
                row |= {"seconds": round(time.perf_counter() - start)}
                if scheme not in (*LOSSLESS, "merged"):
                    own = own_answers(args.run, job | {"path": str(path)})
                    row |= {"same_as_own_runtime": _count_equal(answers, own)}
            except LookupError as error:
                row |= {"skipped": str(error)}
            except (RuntimeError, ValueError) as error:
                row |= {"loads": False, "error": str(error)[:600]}
            same = row.get("same_as_own_runtime", row.get("same"))
            row["ok"] = "skipped" in row or same == len(reference)
            print(json.dumps(row), file=sys.stderr, flush=True)
            rows.append(row)
            if not args.quick and "skipped" not in row:
                said = {"cores": os.cpu_count(), "machine": platform.machine()}
                with RESULTS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({**row, **said}) + "\n")
    return rows


def _count_equal(answers: Sequence[str], others: Sequence[str]) -> int:
    return sum(a.strip() == b.strip() for a, b in zip(answers, others, strict=True))


def run_json_of(python: str, job: Job) -> list[str]:
    """Return plain transformers' answers."""
    return ask_program(lambda: [python], "run_transformers.py")(job)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of `edgetune run`")
    parser.add_argument("--rows", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=48, help="of an answer, at most")
    parser.add_argument("--client", action="append", choices=[one.name for one in CLIENTS])
    parser.add_argument("--scheme", action="append", help="F32, int4, merged, ...")
    parser.add_argument("--quick", action="store_true", help="three rows; nothing is kept")
    parser.add_argument("--no-install", action="store_true", help="only clients that are there")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    args = parser.parse_args()
    if args.quick:
        args.rows = 3
    if not args.no_install:
        install()
    rows = measure(args)
    asked = [row for row in rows if "skipped" not in row]
    if args.json:
        failed = [row for row in rows if not row["ok"]]
        print(json.dumps({"asked": len(asked), "failed": len(failed), "ok": not failed}))
    sys.exit(0 if all(row["ok"] for row in rows) else 3)


if __name__ == "__main__":
    main()
