"""Ask a model in headless Chromium: a server of one folder, and a page that sends answers back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

HERE = Path(__file__).parent
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
_TYPES = {".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript",
          ".json": "application/json", ".wasm": "application/wasm"}  # fmt: skip


def find_chromium() -> str | None:
    """Return the browser's program, if there is one."""
    return shutil.which("chromium") or shutil.which("google-chrome")


def ask_browser(runner: Path, job: dict[str, Any], packages: Path, seconds: float) -> list[str]:
    """Return the answers that a runner's page gives to a job's questions.

    Args:
        runner: a module that exports ``answer(job)``.
        job: ``path``, ``questions`` and ``tokens``.
        packages: a folder with ``node_modules``.
        seconds: to wait, at most.

    Raises:
        RuntimeError: what the page or the browser says instead.
    """
    path = Path(job["path"])
    routes = {"/model/": path.parent, "/node_modules/": packages / "node_modules"}
    texts = {
        "/": (HERE / "page.html").read_bytes(),
        "/runner.mjs": runner.read_bytes(),
        "/job.json": json.dumps({**job, "name": path.name}).encode(),
    }
    found: list[dict[str, Any]] = []
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            where = unquote(urlsplit(self.path).path)
            content, suffix = texts.get(where), Path(where).suffix or ".html"
            for prefix, folder in routes.items():
                file = folder / where.removeprefix(prefix)
                if where.startswith(prefix) and ".." not in where and file.is_file():
                    content = file.read_bytes()
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Type", _TYPES.get(suffix, "application/octet-stream"))
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content or b"")

        def do_POST(self) -> None:
            found.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()
            done.set()

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    program = find_chromium()
    if program is None:
        raise RuntimeError("no chromium here: apt-get install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, *FLAGS, f"--user-data-dir={profile}"]
        page = subprocess.Popen(
            [*command, f"http://127.0.0.1:{server.server_port}/"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            finished = done.wait(seconds)
        finally:
            os.killpg(page.pid, signal.SIGTERM)
            page.wait(30)
            server.shutdown()
            server.server_close()
    if not finished:
        raise RuntimeError(f"no answer from the page in {seconds:.0f} s")
    if "error" in found[0]:
        raise RuntimeError(found[0]["error"])
    return [str(one) for one in found[0]["answers"]]
