"""`edgetune verify` as a user meets it: verdicts, exit codes, JSON, wrong input."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from edgetune.artifact import commit_part, open_part
from edgetune.cli import main
from edgetune.cli.verify import _steps_of
from edgetune.log import Log
from edgetune.pipeline import plan_run
from edgetune.recipe import Recipe
from edgetune.recipe.load import dump_recipe
from edgetune.rundir import RunDir
from edgetune.runtimes.gguf_header import open_gguf
from tests.diagnose.injected_faults import Chain, make_chain, rewrite


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return make_chain("llama", tmp_path_factory.mktemp("chain"))


@dataclass(frozen=True)
class Done:
    exit_code: int
    stdout: str
    output: str


def invoke(*arguments: object) -> Done:
    """Run the command in this process, which has torch already."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["edgetune", "verify", *map(str, arguments)]
    with (
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as end,
    ):
        main()
    return Done(int(end.value.code or 0), out.getvalue(), out.getvalue() + err.getvalue())


def test_same_model_passes(chain: Chain) -> None:
    done = invoke(chain.merged, chain.plain, "--tokens", 256)
    assert done.exit_code == 0, done.output
    assert "lossless" in done.output
    assert "verdict    pass" in done.output


def test_other_model_fails_and_names_the_cause(chain: Chain) -> None:
    done = invoke(chain.trained, chain.base, "--tokens", 256)
    assert done.exit_code == 3
    assert "adapter not applied" in done.output


def test_json_is_one_line(chain: Chain) -> None:
    done = invoke(chain.merged, chain.small, "--json", "--quiet", "--tokens", 256)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["verdict"] == "pass"
    assert found["class"] == "lossy"
    names = [check["name"] for check in found["checks"]]
    assert names == ["tokenizer", "template", "stopping", "weights"]
    figures = found["checks"][3]["figures"]
    assert {"kl_mean", "kl_p50", "kl_p99", "kl_max", "perplexity_ratio_ci95"} <= figures.keys()


def test_weights_are_evaluated_on_the_rows_of_the_user(chain: Chain, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "turn on the light", "completion": "ok, done"}\n' * 3)
    done = invoke(chain.merged, chain.plain, "--data", rows, "--json")
    assert done.exit_code == 0, done.output
    weights = json.loads(done.stdout.splitlines()[-1])["checks"][3]["figures"]
    assert weights["texts"] == 3


def test_rows_with_tool_calls_are_counted_as_left_out(chain: Chain, tmp_path: Path) -> None:
    plain = {
        "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ok"}]
    }
    call = {"type": "function", "function": {"name": "lamp", "arguments": "{}"}}
    answer = {"role": "assistant", "content": None, "tool_calls": [call]}
    called = {"messages": [{"role": "user", "content": "light"}, answer]}
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in (plain, called, plain)))
    done = invoke(chain.merged, chain.plain, "--data", rows, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["checks"][3]["figures"]["texts"] == 2
    assert found["notes"][0].startswith("1 of 3 rows left out: they have tool calls")

    rows.write_text((json.dumps(called) + "\n") * 2)
    done = invoke(chain.merged, chain.plain, "--data", rows)
    assert done.exit_code == 2 and "every row has tool calls" in done.output


def test_bisect_names_the_first_failing_step(chain: Chain, tmp_path: Path) -> None:
    spoiled = rewrite(chain.small, tmp_path / "x.gguf", {"tokenizer.ggml.eos_token_id": 5})
    done = invoke(
        "--bisect", chain.trained, chain.merged, chain.plain, spoiled, "--json", "--tokens", 256
    )
    assert done.exit_code == 3
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["first_failing_step"] == "F32.gguf → x.gguf"
    assert found["failing_check"] == "stopping"
    assert [step["verdict"] for step in found["steps"]] == ["pass", "pass", "fail"]


def test_bisect_takes_the_artifacts_of_the_recipe(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    """Two generations in one folder: those of the recipe count, though they are older."""
    run = RunDir(tmp_path / "run")
    run.path.mkdir()

    def recipe(rank: int) -> Recipe:
        sections = {"model": {"path": str(tiny_model)}, "data": {"train": str(device_rows)}}
        return Recipe.model_validate({**sections, "tune": {"rank": rank}, "merge": {}})

    made = {}
    for rank in (4, 8):
        for step in plan_run(recipe(rank), run):
            if step.artifact is not None:  # the same rows
                continue
            final = run.stage_path(step.stage.name, step.key)
            open_part(final, step.key)
            commit_part(final, step.stage.kind, step.stage.name, step.key, step.parents, {})
            made[rank, step.stage.name] = str(final)
    log = Log(None, quiet=True)
    steps = _steps_of(run.path, log)
    assert steps[0].after == made[8, "merge"], "the newest, without a recipe"
    assert steps[0].before == made[8, "tune"]
    for rank in (4, 8):
        (run.path / "recipe.yaml").write_text(dump_recipe(recipe(rank), {}))
        (step,) = _steps_of(run.path, log)
        assert (step.before, step.after) == (made[rank, "tune"], made[rank, "merge"])


def test_wrong_input_is_explained(chain: Chain, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("hello")
    (tmp_path / "broken.gguf").write_bytes(chain.plain.read_bytes()[:5000])
    cases = (
        ((chain.merged,), "1 models given, not 2"),
        ((chain.merged, tmp_path / "nothing"), "no such model folder"),
        ((chain.merged, tmp_path / "x.txt"), "not a model file that edgetune knows"),
        ((chain.merged, tmp_path / "broken.gguf"), "a broken GGUF file"),
        ((f"{chain.base}+{tmp_path}", chain.merged), "no adapter here"),
        (("--bisect", tmp_path), "no artifact of a run here"),
    )
    for arguments, said in cases:
        done = invoke(*arguments)
        assert done.exit_code == 2, (arguments, done.output)
        assert said in done.output
        assert "Traceback" not in done.output


@pytest.mark.assets
def test_an_independent_file_passes_and_one_without_scores_fails(
    assets: Path, tmp_path: Path
) -> None:
    folder = assets / "models/stories260K"
    golden = folder / "golden.gguf"
    assert invoke(folder, golden).exit_code == 0
    count = len(open_gguf(golden).keys["tokenizer.ggml.scores"])
    flat = {"tokenizer.ggml.scores": [-1000.0] * count}
    done = invoke(folder, rewrite(golden, tmp_path / "flat.gguf", flat), "--json")
    assert done.exit_code == 3
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["failing_check"] == "tokenizer"
    assert found["faults"][0]["name"] == "scores_lost"


def test_a_file_that_its_runtime_dies_of_is_explained(chain: Chain, tmp_path: Path) -> None:
    keys = {"llama.attention.head_count": 3, "llama.attention.head_count_kv": 3}
    broken = rewrite(chain.plain, tmp_path / "x.gguf", keys)
    done = invoke(chain.merged, broken, "--json")
    assert done.exit_code == 3, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["failing_check"] == "weights"
    assert "head_count" in found["faults"][0]["what"]
