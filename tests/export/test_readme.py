"""The README of an export folder: its Python snippets run as they stand and give the answer."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgetune.data.contract import encoder_of, read_contract
from edgetune.export.readme import write_readme
from edgetune.export.snippets import Question, gguf_snippets, onnx_snippets
from edgetune.naming import name_model
from edgetune.recipe import DataSection, Sections
from edgetune.runtimes import open_runtime
from edgetune.stages import export
from tests.conftest import make_model, write_device_rows
from tests.stages.test_quantize import LOG, make_recipe, merge, quantized

SCHEMES = {"gguf": ["F32", "F16"], "onnx": ["fp32"], "calibration_rows": 4}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The merged model and its export folder."""
    folder = tmp_path_factory.mktemp("readme")
    rows = write_device_rows(folder / "rows.jsonl")
    model = make_model(folder / "model", seed=3)
    recipe = make_recipe(rows, quantize=SCHEMES, export={"check_rows": 2})
    merged = merge(model, recipe, folder / "merge")
    planned = quantized(recipe, merged, folder / "plan")
    (folder / "out").mkdir()
    sections = Sections(recipe, ("file_name", "device", "data", "quantize", "export"))
    export.run(sections, {"merge": merged, "quantize": planned}, folder / "out", LOG)
    return merged.model_folder, folder / "out"


def read_snippets(out: Path) -> dict[str, tuple[str, str]]:
    """Return client to (language, code)."""
    text = (out / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^### (.+?)\n.*?^```(\w+)\n(.*?)^```$", text, re.S | re.M)
    return {client: (language, code) for client, language, code in found}


def greedy_text(model: Path, tokens: int = 64) -> str:
    """What the merged model answers to the question of the snippets."""
    contract = read_contract(model)
    encoder = encoder_of(model, DataSection(train="-"))
    runtime = open_runtime(model, threads=1)
    ((answer),) = runtime.generate([contract["golden"][0]["ids"]], tokens, list(encoder.stop_ids))
    runtime.close()
    return str(encoder.tokenizer.decode(answer, skip_special_tokens=True))


@pytest.mark.parametrize("client", ["llama-cpp-python", "onnxruntime-genai"])
def test_python_snippets_answer_as_the_model_does(client: str, made: tuple[Path, Path]) -> None:
    model, out = made
    language, code = read_snippets(out)[client]
    assert language == "python"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=out, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    wanted = greedy_text(model)
    assert len(wanted) > 20  # a random model talks until it is stopped
    # A random model says bytes that are no text, which every client drops in its own way.
    assert re.sub(r"[^ -~]", "", done.stdout) == re.sub(r"[^ -~]", "", wanted)


def test_every_path_is_there(made: tuple[Path, Path]) -> None:
    text = (made[1] / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:gguf|onnx)/[\w.-]+", text))
    assert "gguf/tiny-F16.gguf" in named and "onnx/fp32" in named
    assert all((made[1] / name).exists() for name in named), named


def test_no_snippet_for_a_format_that_is_not_there(tiny_model: Path, tmp_path: Path) -> None:
    file: dict[str, Any] = {
        "format": "gguf", "path": "gguf/a.gguf", "bytes": 5,
        "checks": {"kl_all_tokens": 0.0, "token_ids_equal": True},
    }  # fmt: skip
    write_readme("a", tiny_model, [file], [], [], tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "llama-server -m gguf/a.gguf" in text
    assert "onnx" not in text and "Modelfile" not in text
    write_readme("a", tiny_model, [{**file, "format": "onnx", "path": "onnx/x"}], [], [], tmp_path)
    assert "llama" not in (tmp_path / "README.md").read_text()


NASTY = 'say "it\'s" `$(rm -rf x)` \\ {braces} </script> é\nline two'


def test_a_prompt_of_any_signs_stays_the_prompt() -> None:
    """In a shell and in Python alike."""
    turns = [{"role": role, "content": NASTY} for role in ("system", "user")]
    asked = Question(turns, 9, 9)
    snippets = {one.client: one for one in gguf_snippets("g.gguf", "g.Modelfile", asked)}
    snippets |= {one.client: one for one in onnx_snippets("o", asked)}
    for one in snippets.values():
        if one.language == "python":
            messages: dict[str, Any] = {}
            head = one.code[one.code.index("messages = ") :]
            exec(head[: re.search(r"^(model|tokenizer) = ", head, re.M).start()], messages)  # type: ignore[union-attr]
            assert messages["messages"][-1]["content"] == NASTY, one.client
    line = snippets["llama.cpp on the command line"].code.replace("llama-cli", "printf '%s\\0'")
    parts = subprocess.run(["sh", "-c", line], capture_output=True, check=True).stdout.split(b"\0")
    assert parts.count(NASTY.encode()) == 2


def test_names_come_from_the_model() -> None:
    assert name_model("embedded:base") == "base"
    assert name_model("org/Some-Model-1.5B") == "Some-Model-1.5B"
    assert name_model("/x/models--org--Llama-3/snapshots/" + "a" * 40) == "Llama-3"
    assert name_model("/runs/lamps/merge-0123abcd/model") == "lamps"
    assert name_model("/x/my model ü/") == "my-model"
    assert name_model("/") == "model"
