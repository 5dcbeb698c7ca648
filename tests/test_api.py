"""The Python API: light to import, the same work as the commands."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import edgetune
from edgetune import api
from edgetune.adopt import adopt_files
from edgetune.artifact import Artifact
from edgetune.cli import COMMANDS
from edgetune.errors import InputError
from edgetune.rundir import RunDir
from tests.model_files import make_gguf, make_onnx


def test_importing_edgetune_imports_no_heavy_library() -> None:
    code = "import edgetune, sys; dir(edgetune); print([m for m in sys.modules if m in %r])"
    heavy = ("torch", "transformers", "pydantic", "numpy", "click")
    done = subprocess.run([sys.executable, "-c", code % (heavy,)], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_every_public_name_is_listed_and_documented() -> None:
    for name in edgetune.__all__:
        assert name in dir(edgetune)
        assert inspect.getdoc(getattr(api, name))
    assert set(edgetune.__all__) - {"load", "Recipe"} <= set(COMMANDS)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = edgetune.nothing


def test_functions_stay_callable_once_a_subpackage_of_their_name_is_loaded(tmp_path: Path) -> None:
    import edgetune.export.files
    import edgetune.quantize.plan

    assert edgetune.export.files.__name__ == "edgetune.export.files"  # type: ignore[attr-defined]
    with pytest.raises(InputError):
        edgetune.export(str(tmp_path / "none"), "rows.jsonl", tmp_path / "out")
    with pytest.raises(InputError):
        edgetune.quantize(str(tmp_path / "none"), "rows.jsonl", tmp_path / "out")


def _artifact(folder: Path, content: str) -> Artifact:
    (folder / "gguf").mkdir(parents=True)
    (folder / "gguf" / "m-Q8_0.gguf").write_text(content)
    return Artifact(folder, "files", "export", "k", files={"gguf/m-Q8_0.gguf": {}})


def test_files_lie_under_stable_names_and_follow_the_recipe(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    first, second = _artifact(tmp_path / "export-1", "one"), _artifact(tmp_path / "export-2", "two")
    stable = tmp_path / "files" / "gguf" / "m-Q8_0.gguf"
    run.link_files(first)
    assert stable.read_text() == "one"
    assert stable.samefile(first.path / "gguf" / "m-Q8_0.gguf")  # no disk taken
    run.link_files(second)
    assert stable.read_text() == "two"
    run.link_files(None)
    assert not stable.exists() and first.path.exists()


def test_files_are_copied_where_there_are_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    RunDir(tmp_path).link_files(_artifact(tmp_path / "export-1", "one"))
    assert (tmp_path / "files" / "gguf" / "m-Q8_0.gguf").read_text() == "one"


@pytest.mark.parametrize("make", [Path, make_gguf, make_onnx], ids=["folder", "gguf", "onnx"])
def test_a_loaded_model_answers_in_text(make: Callable[[Path], Path], tiny_model: Path) -> None:
    """The README's example, for every kind of file."""
    model = edgetune.load(make(tiny_model), threads=1)
    try:
        answer = model.generate_text([{"role": "user", "content": "turn on the lamp"}], 12)
        prompt = model.tokenize(model.render([{"role": "user", "content": "turn on the lamp"}]))
        (ids,) = model.generate([prompt], 12, model.stop_ids())
        assert answer and answer == model.detokenize(ids).strip()
    finally:
        model.close()


def test_a_graph_that_names_files_outside_its_folder_is_refused(
    tiny_model: Path, tmp_path: Path
) -> None:
    import onnx

    folder = tmp_path / "files" / "onnx"
    shutil.copytree(make_onnx(tiny_model), folder)
    graph = onnx.load(folder / "model.onnx", load_external_data=False)
    (folder / "model.onnx.data").rename(tmp_path / "weights")
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../../weights"
    onnx.save(graph, folder / "model.onnx")
    for opening in (lambda: edgetune.load(folder), lambda: adopt_files([folder])):
        with pytest.raises(InputError, match="outside the model's folder"):
            opening()
