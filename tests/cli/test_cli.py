"""The command line as a person meets it: help, wrong input, exit codes; never a traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgetune.artifact import commit_part, open_part
from edgetune.cli import COMMANDS
from edgetune.models.ref import ModelRef
from edgetune.naming import name_model
from tests.tiny_models import make_adapter

EDGETUNE = (sys.executable, "-m", "edgetune")
HEAVY = ("torch", "transformers", "peft", "trl", "bitsandbytes", "datasets", "onnxruntime")


def call(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the real command in a process of its own."""
    return subprocess.run(
        [*EDGETUNE, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        timeout=120,
        check=False,
    )


def refused(done: subprocess.CompletedProcess[str], *words: str, code: int = 2) -> None:
    """Assert a clear refusal: the exit code, every word, no traceback."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS), ("data", "show")])
def test_help_without_torch(command: tuple[str, ...]) -> None:
    code = (
        "import sys; sys.argv = ['edgetune', *sys.argv[1:]]\n"
        "from edgetune.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        f"loaded = [m for m in {HEAVY!r} if m in sys.modules]\nassert not loaded, loaded"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: ")


def test_help_of_the_group_imports_no_command() -> None:
    code = (
        "import sys; sys.argv = ['edgetune', '--help']\n"
        "from edgetune.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert not [m for m in sys.modules if m.startswith('edgetune.cli.')]\n"
        "assert 'pydantic' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


def test_unknown_command_and_option() -> None:
    refused(call("tun"), "no command 'tun'", "did you mean 'tune'")
    refused(call("run", "--no-such"), "--no-such")


def test_home_is_expanded_in_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgetune.cli import _expand_home

    monkeypatch.setenv("HOME", "/home/ann")
    for given, wanted in (
        ("--out=~/x", "--out=/home/ann/x"), ("~/x", "/home/ann/x"), ("a~/x", "a~/x"),
        ("--set=data.system=~/x", "--set=data.system=~/x"), ("--out=a~", "--out=a~"),
        ("data.system=~/x", "data.system=~/x"),
    ):  # fmt: skip
        assert _expand_home(given) == wanted


def test_unknown_recipe_key(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("model: {path: embedded:base}\ntune: {lerning_rate: 1}\n")
    refused(call("run", tmp_path / "r.yaml"), "tune.lerning_rate", "did you mean 'learning_rate'")
    refused(call("run", tmp_path / "none.yaml"), "cannot read the recipe", "edgetune init")


def test_stages_that_lack_their_input(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("model: {path: embedded:base}\ndata: {train: embedded:devices/test.jsonl}\n")
    refused(call("run", path, "--set", "distill={}"), "needs the stage 'tune'")
    adapter = ("run", path, "--set", "export.adapter=true", "--set", "merge={}", "--set",
               "quantize={}", "--set")  # fmt: skip
    refused(call(*adapter, "tune.method=full"), "no adapter to export", "tune.method is full")
    student = call(*adapter, "tune={}", "--set", "distill={}")
    refused(student, "export.adapter", "the student is shipped")
    path.write_text("model: {path: embedded:base}\ntune: {}\n")
    refused(call("run", path), "no data")


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (["budget=[byte=3MB]"], "did you mean 'bytes'"),
        (["method=qat"], "no file is trained"),
        (["types=[Q4_0]"], "no types are searched"),
        (["budget=[onnx:bits=5]", "types=[Q4_K]"], "gives matrices of onnx files none of Q4_K"),
    ],
)
def test_what_quantize_cannot_do_is_refused_before_the_tuning(
    tmp_path: Path, settings: list[str], fault: str
) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "model: {path: embedded:base}\ndata: {train: embedded:devices/test.jsonl}\n"
        "tune: {}\nmerge: {}\n"
    )
    given = [part for one in settings for part in ("--set", f"quantize.{one}")]
    refused(call("run", path, *given, "--out", tmp_path / "run"), fault, "quantize.")
    assert not (tmp_path / "run").exists()


def test_the_adapter_of_a_merged_model_ships_alone(
    tmp_path: Path, tiny_model: Path, device_rows: Path
) -> None:
    adapter = make_adapter(tiny_model, tmp_path / "adapter")
    common = ("--model", tiny_model, "--data", device_rows)
    tuned = tmp_path / "tuned"
    facts = {"model": ModelRef(tiny_model, adapter).to_json(tuned), "compute_dtype": "float32"}
    facts["contract"] = str(tiny_model)
    open_part(tuned, "key")
    commit_part(tuned, "adapter", "tune", "key", {}, facts)
    merged = tmp_path / "merged"
    done = call("merge", *common, "--adapter", tuned, "--out", merged)
    assert done.returncode == 0, done.stderr
    export = ("export", "--model", merged, "--data", device_rows, "--scheme", "F32")
    done = call(*export, "--adapter", tuned, "--out", tmp_path / "files", "--json")
    assert done.returncode == 0, done.stderr
    (made,) = json.loads(done.stdout.splitlines()[-1])["facts"]["adapters"]
    assert (tmp_path / "files" / made["path"]).is_file() and made["kl_all_tokens"] <= 1e-5
    refused(
        call(*export, "--adapter", tmp_path / "none", "--out", tmp_path / "more"), "no adapter here"
    )


def test_files_that_cannot_be_are_named_before_any_work(
    tmp_path: Path, tiny_model: Path, device_rows: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    path = model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": ["NobodyLM"]}))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {{path: {model}}}\ndata: {{train: {device_rows}}}\n"
        "tune: {max_steps: 1}\nmerge: {}\nquantize: {}\nexport: {}\n"
    )
    out = tmp_path / "run"
    refused(call("run", recipe, "--out", out), "none of the files asked for", "NobodyLM")
    assert not out.exists() or not list(out.glob("tune-*"))


def test_missing_model_and_data(tmp_path: Path, device_rows: Path) -> None:
    out = tmp_path / "out"
    refused(call("tune", "--out", out), "--data is missing")
    refused(call("tune", "--data", device_rows, "--out", out), "--model is missing")
    refused(
        call("tune", "--model", tmp_path / "none", "--data", device_rows, "--out", out),
        "no such model folder",
    )
    refused(
        call("tune", "--model", "embedded:base", "--data", tmp_path / "none.jsonl", "--out", out),
        "no such data file",
    )
    assert not out.exists()


def test_malformed_rows(tmp_path: Path, tiny_model: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a", "completion": 3}\n')
    common = ("tune", "--model", tiny_model, "--data", rows, "--out", tmp_path / "out")
    refused(call(*common), "rows.jsonl:2", "completion")
    rows.write_text("")
    refused(call(*common), "rows.jsonl")
    lines = (f'{{"prompt": "a{n}", "completion": "b"}}\n' for n in range(40))
    rows.write_text("".join(lines))
    refused(call(*common, "--max-length", "4"), "max_length")


def test_pickled_and_broken_models(tmp_path: Path, tiny_model: Path, device_rows: Path) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "m"))
    common = ("tune", "--model", folder, "--data", device_rows, "--out", tmp_path / "out")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    refused(call(*common), "not a whole safetensors file", "model.safetensors")
    weights.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    refused(call(*common), "pickled")
    weights.write_bytes(whole)
    (folder / "config.json").unlink()
    refused(call(*common), "config.json")


def test_no_cuda_when_asked_for(tmp_path: Path, tiny_model: Path, device_rows: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    common = ("tune", "--model", tiny_model, "--data", device_rows, "--out", tmp_path / "out")
    refused(call(*common, "--device", "cuda"), "no CUDA device", "model.device")


def test_adapter_of_another_base(tmp_path: Path, tiny_model: Path, device_rows: Path) -> None:
    from edgetune.models.adapters import add_adapter, save_adapter
    from edgetune.models.load import load_base
    from edgetune.recipe import TuneSection
    from tests.conftest import make_model

    other = make_model(tmp_path / "other", layers=3)
    model = add_adapter(load_base(other, False, "float32", "cpu"), TuneSection(rank=2), 0)
    save_adapter(model, tmp_path / "adapter")
    common = ("merge", "--model", tiny_model, "--data", device_rows, "--out", tmp_path / "out")
    refused(call(*common, "--adapter", tmp_path / "adapter"), "which this base does not have")
    refused(call(*common, "--adapter", tmp_path), "neither an artifact")
    refused(call(*common), "--adapter is missing")


def test_merge_of_one_adapter_on_another(
    tmp_path: Path, tiny_model: Path, device_rows: Path
) -> None:
    from safetensors.torch import load_file

    from edgetune.models.lineage import stamp_adapter
    from edgetune.models.merge import write_merged
    from tests.tiny_models import make_adapter

    sft, once = make_adapter(tiny_model, tmp_path / "sft"), tmp_path / "once"
    stamp_adapter(sft, tiny_model)
    write_merged(tiny_model, [sft], once, "float32")
    dpo, twice = make_adapter(once, tmp_path / "dpo", seed=2), tmp_path / "twice"
    stamp_adapter(dpo, once)
    write_merged(once, [dpo], twice, "float32")
    common = (
        "merge", "--model", tiny_model, "--data", device_rows, "--set", "merge.dtype=float32",
        "--trained-on", "original",
    )  # fmt: skip
    out = ("--out", tmp_path / "out", "--json")
    done = call(*common, "--adapter", sft, "--adapter", dpo, *out)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["facts"]["adapters"] == 2
    made, wanted = (
        load_file(folder / "model.safetensors") for folder in (tmp_path / "out" / "model", twice)
    )
    assert all(made[name].equal(wanted[name]) for name in wanted)
    refused(
        call(*common, "--adapter", dpo, "--adapter", sft, "--out", tmp_path / "other"),
        "in the order they were trained",
    )


def test_unknown_scheme_and_foreign_file(
    tmp_path: Path, tiny_model: Path, device_rows: Path
) -> None:
    common = ("--model", tiny_model, "--data", device_rows, "--out", tmp_path / "out")
    refused(call("export", *common, "--scheme", "Q4_K"), "no scheme 'Q4_K'", "Q4_K_M")
    refused(call("bench", device_rows, *common), "neither a GGUF file")


def test_init_dry_run_and_json(tmp_path: Path) -> None:
    done = call("init", "mine.yaml", cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "mine.yaml").exists()
    refused(call("init", "mine.yaml", cwd=tmp_path), "not overwritten")
    done = call("run", "mine.yaml", "--dry-run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout.splitlines()[-1])
    assert [line.partition(":")[0] for line in plan["plan"]] == [
        "prepare", "tune", "merge", "quantize", "export", "bench",
    ]  # fmt: skip
    assert "rank: 16  # mine.yaml" in done.stdout
    assert not (tmp_path / "runs").exists()


def test_errors_as_json() -> None:
    done = call("run", "none.yaml", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout.splitlines()[-1])["exit_code"] == 2


@pytest.mark.parametrize("name", ["consumer-gpu-8b", "laptop-0.5b"])
def test_recipes_with_hub_ids_dry_run_offline(name: str) -> None:
    done = call("run", f"configs/{name}.yaml", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "tune: to run" in done.stdout


def test_doctor_names_every_runtime() -> None:
    done = call("doctor", "--json")
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["machine"]["cores"] >= 1
    assert {"llama_cpp", "onnxruntime", "bitsandbytes"} <= {c["module"] for c in found["checks"]}
    assert done.returncode == (0 if found["ok"] else 2)
    assert "computes in" in call("doctor").stdout


def test_root_on_the_path_does_not_shadow_the_package_kernels() -> None:
    """`kernels/` at the root has no __init__, or transformers would import it as its own."""
    code = "from transformers.utils import is_kernels_available as found; print(found())"
    inside, outside = (
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True, text=True, cwd=cwd, check=True,
        ).stdout
        for cwd in (Path.cwd(), "/")
    )  # fmt: skip
    assert inside == outside


def test_a_plan_is_exported_without_a_recipe(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    given = ["--model", str(tiny_model), "--data", str(device_rows), "--quiet"]
    plan, files = tmp_path / "plan", tmp_path / "files"
    made = call("quantize", *given, "--scheme", "Q8_0", "--out", str(plan))
    assert made.returncode == 0, made.stderr
    made = call("export", *given, "--plan", str(plan), "--out", str(files))
    assert made.returncode == 0, made.stderr
    name = name_model(str(tiny_model))
    assert [file.name for file in files.glob("gguf/*.gguf")] == [f"{name}-Q8_0.gguf"]
    assert f"llama-cli -m gguf/{name}-Q8_0.gguf" in (files / "README.md").read_text()


def test_budgets_and_methods_are_refused_in_words(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    given = ["quantize", "--model", tiny_model, "--data", device_rows, "--quiet"]
    given += ["--out", tmp_path / "plan"]
    refused(
        call(*given, "--budget", "ram=800"),
        "quantize.budget: ram=800", "'800' is no amount of ram", "B, KB, MB, GB, KiB, MiB, GiB",
    )  # fmt: skip
    refused(call(*given, "--budget", "tpot=12min"), "one of ms, s, us")
    refused(call(*given, "--method", "autoround"), "rounded by AutoRound", "quantize.budget")
    refused(
        call(*given, "--method", "autoround", "--train", "--target", "bits=5"), "both are given"
    )
    refused(call(*given, "--set", "quantize.qat.scales=learned"), "only method: qat reads")
    refused(
        call(*given, "--budget", "ram=1GB", "--set", "bench.new_tokens=1"),
        "bench.new_tokens", "no time from token to token",
    )  # fmt: skip
