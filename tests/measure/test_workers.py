"""A forked worker is a worker: own process, own exit code, the same answers as a fresh one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from edgetune.measure.workers import Workers
from edgetune.models.ref import ModelRef
from tests.measure.test_worker import write_job


def test_forks_answer_like_fresh_processes(tiny_model: Path, tmp_path: Path) -> None:
    ref = ModelRef(tiny_model).to_json(Path())
    found = []
    with Workers(threads=1) as workers:
        for number, run in enumerate([workers.run, workers.fork, workers.fork]):
            folder = tmp_path / str(number)
            folder.mkdir()
            job = write_job(folder, tiny_model)
            content = {k: v for k, v in json.loads(job.read_text()).items() if k != "model"}
            job.write_text(json.dumps(content | {"ref": ref}))
            assert run(job, folder / "said") == 0, (folder / "said").read_text()
            result = json.loads((folder / "result.json").read_text())
            figures = {m["name"]: m["value"] for m in result["measurements"]}
            assert figures["peak_rss_bytes"] > 100e6  # torch is part of what it takes
            found.append((result["answers"], figures["perplexity"]))
    assert found[0] == found[1] == found[2]


def test_a_fork_that_fails_leaves_the_next_one_alone(tiny_model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    (broken / "model.safetensors").write_bytes(b"no")
    job = write_job(tmp_path, broken)
    with Workers(threads=1) as workers:
        assert workers.fork(job, tmp_path / "said") == 2
        assert "model.safetensors" in (tmp_path / "said").read_text()
        assert workers.fork(tmp_path / "missing.json", tmp_path / "said") == 1
        assert "FileNotFoundError" in (tmp_path / "said").read_text()
        assert workers.fork(write_job(tmp_path, tiny_model), tmp_path / "said") == 0


def test_a_killed_process_is_told_by_its_signal(tiny_model: Path, tmp_path: Path) -> None:
    with Workers(threads=1) as workers:
        workers.fork(write_job(tmp_path, tiny_model), tmp_path / "said")
        assert workers._torch is not None
        process = workers._torch.process
        process.kill()  # as the system does when memory is short
        process.wait()
        assert workers.fork(write_job(tmp_path, tiny_model), tmp_path / "said") == -9
    assert process.poll() == -9
