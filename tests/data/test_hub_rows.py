"""A dataset of the hub is read at the commit that its name means, also from the cache alone."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from edgetune.data.hub_rows import find_hub_id
from edgetune.data.sources import open_source
from edgetune.errors import InputError
from edgetune.recipe import DataSource

COMMITS = {"main": "a" * 40, "v2": "b" * 40}
CARD = """---
license: cc-by-4.0
configs:
- config_name: main
  default: true
  data_files: [{split: train, path: main/train.jsonl}, {split: test, path: main/test.jsonl}]
- config_name: other
  data_files: [{split: train_sft, path: other/train.jsonl}]
---
"""
READ = """
import json, sys
from edgetune.data.dataset.make import load_splits
from edgetune.data.sources import hash_sources
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.recipe import DataSection
for train in json.loads(sys.argv[1]):
    section = DataSection.model_validate({"train": train, "validation_fraction": 0.3})
    try:
        found = load_splits(section, 0, Log(quiet=True))
        rows = {name: [row.answer for row in getattr(found, name)] for name in ("train", "test")}
        print(json.dumps([rows, found.facts["provenance"][0], hash_sources(section.train)]))
    except InputError as error:
        print(json.dumps([error.what, error.where, error.hint]))
"""


def rows(*answers: str) -> bytes:
    lines = (json.dumps({"prompt": f"q {one}", "completion": one}) for one in answers)
    return "".join(line + "\n" for line in lines).encode()


def files_at(sha: str) -> dict[str, bytes]:
    return {
        "README.md": CARD.encode(),
        "main/train.jsonl": rows(*(f"{sha[0]}{n}" for n in range(6))),
        "main/test.jsonl": rows("t"),
        "other/train.jsonl": rows("o1", "o2", "o3", "o4"),
    }


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as datasets asks of it, for the one dataset me/rows."""

    def log_message(self, *args: Any) -> None:
        pass

    def answer(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        places = {"/api/datasets/me/rows/": self.describe, "/datasets/me/rows/": self.give}
        for start, handle in places.items():
            if path.startswith(start):
                what, revision, rest = (*path.removeprefix(start).split("/", 2), "", "")[:3]
                sha = COMMITS.get(revision, revision)
                if sha in COMMITS.values():
                    return handle(what, sha, rest)
                return self.answer(b"{}", 404, X_Error_Code="RevisionNotFound")
        return self.answer(b"{}", 404, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET

    def describe(self, what: str, sha: str, rest: str) -> None:
        files = files_at(sha)
        if what == "tree":
            listed: Any = [
                {"type": "file", "path": name, "size": len(body), "oid": tag(body)}
                for name, body in files.items()
                if name.startswith(rest)
            ]
        else:
            listed = {"id": "me/rows", "sha": sha, "private": False, "tags": [], "downloads": 0,
                      "likes": 0, "siblings": [{"rfilename": name} for name in files]}  # fmt: skip
        self.answer(json.dumps(listed).encode(), Content_Type="application/json")

    def give(self, what: str, sha: str, name: str) -> None:
        body = files_at(sha).get(name)
        if body is None:
            return self.answer(b"", 404, X_Error_Code="EntryNotFound", X_Repo_Commit=sha)
        return self.answer(body, ETag=f'"{tag(body)}"', X_Repo_Commit=sha)


def tag(body: bytes) -> str:
    return hashlib.sha1(body).hexdigest()


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def read(trains: list[Any], home: Path, endpoint: str, offline: bool = False) -> list[Any]:
    """Load each source in one child process, as the client reads its settings at import."""
    settings = {
        "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1" if offline else "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", READ, json.dumps(trains)],
        env={**os.environ, **settings}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_dataset_of_the_hub_is_read_at_its_commit(hub: str, tmp_path: Path) -> None:
    other = {"path": "hf:me/rows", "config": "other", "split": "train_sft"}
    newer = {"path": "me/rows", "revision": "v2", "license": "MIT"}
    wrong: list[Any] = [
        "me/none", {"path": "me/rows", "revision": "v3"}, {"path": "me/rows", "config": "third"},
    ]  # fmt: skip
    found = read(["me/rows", other, newer, *wrong], tmp_path, hub)
    (main, known, first), (sft, _, second), (new, stated, third), *faults = found
    assert main["train"] == sorted(main["train"]) and main["test"] == ["t"]
    assert len(main["train"]) == 4 and set(main["train"]) < {f"a{n}" for n in range(6)}
    assert (known["revision"], known["license"]) == ("a" * 40, "cc-by-4.0")
    assert len(sft["train"]) == 3 and set(sft["train"]) < {"o1", "o2", "o3", "o4"}
    assert new["train"][0][0] == "b" and stated["revision"] == "b" * 40
    assert stated["license"] == "MIT"
    assert first == second == f"hub:me/rows@{'a' * 40}" and third == f"hub:me/rows@{'b' * 40}"
    for what, where, hint in faults:
        assert "cannot get this dataset" in what and where.startswith("hf:me/") and hint
    assert "third" in faults[2][0]

    cached = read(["me/rows", newer, "me/never"], tmp_path, "http://127.0.0.1:9", offline=True)
    assert cached[1] == found[2]
    assert f"opens the commit {'b' * 40} and not {'a' * 40}" in cached[0][0]
    assert "HF_HUB_OFFLINE is set" in cached[2][2]

    (down,) = read(["me/never"], tmp_path, "http://127.0.0.1:9")
    assert "cannot get this dataset" in down[0] and "the network" in down[2]


def test_what_looks_like_a_path_is_not_asked_of_the_hub(tmp_path: Path) -> None:
    (tmp_path / "me").mkdir()
    for path in (f"{tmp_path}/me", "data/rows.jsonl", "a/b/c", "data/*", "notes/a.PDF", "rows"):
        assert find_hub_id(path) is None, path
    assert find_hub_id("hf:me/rows.v1") == "me/rows.v1" and find_hub_id("me/rows") == "me/rows"
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(InputError, match="revision is of a dataset on the hub"):
        open_source(DataSource(path=str(tmp_path / "a.jsonl"), revision="v1"), "train")
