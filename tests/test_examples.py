"""Examples in README and docs: options exist, recipes load, and the README's commands run."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from edgetune.cli import cli
from tests.conftest import make_model

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if page.name != "LOG.md"]


def read_blocks(page: Path, language: str) -> list[str]:
    """Return the fenced code blocks of a page that are in ``language``."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def read_commands(page: Path) -> list[str]:
    """Return every `edgetune ...` command line of a page's shell blocks, without comments."""
    lines = "\n".join(read_blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [shlex.join(words) for line in lines if (words := shlex.split(line, comments=True))
            and words[0] == "edgetune"]  # fmt: skip


SHORT = {  # settings that keep the stages' work small
    "tune": ["tune.max_steps=4"],
    "merge": ["merge.measure_rows=2"],
    "distill": ["distill.max_steps=4", "distill.samples=8"],
    "quantize": ["quantize.calibration_rows=8"],
    "export": ["export.check_rows=2"],
    "bench": ["bench.task_rows=4", "bench.kl_rows=2", "bench.max_new_tokens=4",
              "bench.prompt_tokens=16", "bench.new_tokens=4", "bench.repeats=2"],
}  # fmt: skip
COMMANDS = sorted({command for page in PAGES for command in read_commands(page)})
STAGES = [
    c for c in read_commands(ROOT / "README.md") if re.search(r" (--model base/|merged/) ", c)
]


def parse(command: str) -> None:
    """Parse a command line as Click does, choices included; paths need not exist."""
    words = shlex.split(command)[1:]
    context = click.Context(cli, info_name="edgetune")
    current: click.Command = cli
    while isinstance(current, click.Group):
        found = current.get_command(context, words[0])
        assert found is not None, f"no command {words[0]}"
        current, words = found, words[1:]
        context = click.Context(current, parent=context)
    values, rest, _ = current.make_parser(context).parse_args(words)
    assert not rest
    for parameter in current.params:
        given = values.get(parameter.name or "")
        if isinstance(parameter.type, click.Choice) and given is not None:
            for value in given if parameter.multiple else [given]:
                parameter.type.convert(value, parameter, context)


@pytest.mark.parametrize("command", COMMANDS)
def test_options_of_examples_exist(command: str) -> None:
    parse(command)


def test_an_option_that_does_not_exist_is_found() -> None:
    with pytest.raises(click.ClickException):
        parse("edgetune quantize --modell merged/ --out plan/")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_recipe_examples_load(page: Path, tmp_path: Path) -> None:
    from edgetune.recipe import Recipe

    for block in read_blocks(page, "yaml"):
        given = yaml.safe_load(block)
        if "tasks" in given:
            load_suite(block, tmp_path)
            continue
        sections = {"model": {"path": "embedded:base"}, "data": {"train": "rows.jsonl"}}
        Recipe.model_validate({**sections, **given})


def load_suite(block: str, folder: Path) -> None:
    """Read an example of a suite of lm-eval, beside the files that it names."""
    from edgetune.lm_eval.tasks import read_suite

    (folder / "rows.jsonl").write_text(json.dumps({"prompt": "play", "label": 0}) + "\n")
    *others, own = yaml.safe_load(block)["tasks"]
    for name in others:
        (folder / name).write_text(yaml.safe_dump({**own, "task": Path(name).stem}))
    (folder / "suite.yaml").write_text(block)
    assert len(read_suite(folder / "suite.yaml")) == len(others) + 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_use_names_that_exist(page: Path) -> None:
    import edgetune

    for block in read_blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "edgetune":
                assert hasattr(edgetune, node.attr), f"edgetune.{node.attr}"


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.slow
def test_readme_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's stage examples run in order on a small random model, with short settings."""
    monkeypatch.chdir(tmp_path)
    make_model(tmp_path / "base", layers=2, hidden=256)
    rows = [
        f'{{"prompt": "light {room} {level}", "completion": "{room} {level}"}}\n'
        for room in ("kitchen", "bedroom", "garage", "hall")
        for level in range(10, 40)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(rows), encoding="utf-8")
    first = [c for c in read_commands(ROOT / "docs" / "quickstart.md") if " my.yaml" in c][:3]
    assert len(STAGES) >= 7 and len(first) == 3
    for command in [*first, *STAGES]:
        words = [w for part in shlex.split(command)[1:] for w in _expand(part)]
        words += [w for knob in SHORT.get(words[0], []) for w in ("--set", knob)]
        call("-m", "edgetune", *words)
    assert list(tmp_path.glob("files/gguf/*Q4_K_M.gguf"))
    stated = [e for e in read_blocks(ROOT / "README.md", "python") if "# True" in e]
    assert stated
    for example in stated:  # one that trains the embedded model takes minutes
        assert call("-c", example) == "True\n"


def call(*words: str) -> str:
    """Run Python with ``words`` and return its stdout; it must succeed."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stderr}"
    return done.stdout


def _expand(word: str) -> list[str]:
    return sorted(map(os.fspath, Path().glob(word))) if "*" in word else [word]
