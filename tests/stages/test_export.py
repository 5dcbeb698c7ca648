"""export: every file is the merged model, or is refused by name; finished files are kept."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from edgetune.artifact import Artifact, hash_file
from edgetune.errors import InputError, MachineFault, Unsupported
from edgetune.facts import to_json
from edgetune.models import offload
from edgetune.models.merge import write_merged
from edgetune.models.ref import ModelRef
from edgetune.quantize.calibration.imatrix import read_imatrix
from edgetune.quantize.plan import read_plan
from edgetune.recipe import Recipe, Sections
from edgetune.stages import export
from tests.conftest import make_model
from tests.stages.test_quantize import LOG, make_recipe, merge, quantized
from tests.tiny_models import make_adapter

SCHEMES = {"gguf": ["F32", "Q4_0"], "onnx": ["fp32", "int4"], "calibration_rows": 4}


def exported(
    recipe: Recipe, merged: Artifact, planned: Artifact, out: Path, **more: Artifact
) -> dict[str, Any]:
    out.mkdir(exist_ok=True)
    sections = Sections(recipe, ("file_name", "device", "data", "quantize", "export"))
    return to_json(export.run(sections, {"merge": merged, "quantize": planned, **more}, out, LOG))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = [
        json.dumps({"prompt": f"light {room} {level}", "completion": f'{{"{room}": {level}}}'})
        for room in ("kitchen", "hall")
        for level in range(10, 30)
    ]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def run(tiny_model: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(recipe, merged, plan, out, facts) of one whole export."""
    folder = tmp_path_factory.mktemp("export")
    recipe = make_recipe(rows, quantize=SCHEMES, export={"check_rows": 2})
    merged = merge(tiny_model, recipe, folder / "merge")
    planned = quantized(recipe, merged, folder / "plan")
    facts = exported(recipe, merged, planned, folder / "out")
    return recipe, merged, planned, folder / "out", facts


def test_writes_and_describes_every_file(run: Any) -> None:
    *_, out, facts = run
    files = {file["name"]: file for file in facts["files"]}
    assert list(files) == ["F32.gguf", "Q4_0.gguf", "fp32.onnx", "int4.onnx"]
    assert files["Q4_0.gguf"]["path"] == "gguf/tiny-Q4_0.gguf"
    assert files["int4.onnx"]["path"] == "onnx/int4"
    assert files["F32.gguf"]["sha256"] == hash_file(out / files["F32.gguf"]["path"])
    assert files["F32.gguf"]["bytes"] > 3 * files["Q4_0.gguf"]["bytes"]
    assert [name for name, file in files.items() if file["lossless"]] == ["F32.gguf", "fp32.onnx"]
    assert facts["refused"] == []


def test_every_file_is_the_merged_model(run: Any) -> None:
    facts = run[-1]
    for file in facts["files"]:
        checks = file["checks"]
        assert checks["token_ids_equal"], checks["different"]
        assert checks["texts"] > 20
        assert checks["positions"] > 20
    gates = {gate["name"]: gate for gate in facts["gates"]}
    assert gates["F32.gguf kl_all_tokens_to_merged"]["limit"] == 1e-5
    assert gates["fp32.onnx kl_all_tokens_to_merged"]["ok"]
    assert gates["Q4_0.gguf token_ids_equal"]["ok"]
    assert "Q4_0.gguf kl_all_tokens_to_merged" not in gates
    assert all(gate["ok"] for gate in facts["gates"])


def test_both_containers_round_alike(run: Any) -> None:
    """Q4_0 in GGUF and int4 in ONNX hold the same blocks: a gap would be the runtime's."""
    kl = {file["name"]: file["checks"]["kl_all_tokens"] for file in run[-1]["files"]}
    assert kl["int4.onnx"] == pytest.approx(kl["Q4_0.gguf"], rel=0.2)


def test_files_carry_the_contract(run: Any) -> None:
    _, merged, _, out, _ = run
    contract = merged.path / "model/contract.json"
    fields = GGUFReader(out / "gguf/tiny-Q4_0.gguf").fields
    assert fields["edgetune.contract.sha256"].contents() == hash_file(contract)
    assert (
        fields["tokenizer.ggml.eos_token_id"].contents()
        == json.loads(contract.read_text())["end_id"]
    )
    assert (out / "onnx/int4/contract.json").read_bytes() == contract.read_bytes()


def test_a_modelfile_stands_beside_each_gguf_file(run: Any) -> None:
    *_, out, facts = run
    files = {file["name"]: file for file in facts["files"]}
    assert files["Q4_0.gguf"]["modelfile"] == "gguf/tiny-Q4_0.Modelfile"
    assert files["Q4_0.gguf"]["modelfile_template"]
    text = (out / "gguf/tiny-Q4_0.Modelfile").read_text()
    assert "FROM ./tiny-Q4_0.gguf\n" in text and 'PARAMETER stop "<|im_end|>"\n' in text
    assert '<|im_start|>assistant\n"' in text
    assert "modelfile" not in files["int4.onnx"]


def test_a_second_run_keeps_finished_files(run: Any) -> None:
    recipe, merged, planned, out, facts = run
    kept = out / "gguf/tiny-F32.gguf"
    before = kept.stat().st_mtime_ns
    (out / "gguf/tiny-Q4_0.gguf").unlink()  # as if the run had been killed before it
    (out / "scratch/unfinished-tiny-Q4_0.gguf").write_bytes(b"half")
    again = exported(recipe, merged, planned, out)
    assert kept.stat().st_mtime_ns == before
    assert again == facts


def test_a_changed_weight_fails_its_gate(run: Any, tmp_path: Path) -> None:
    """The gate sees a file that is not the model: here, one weight of the F32 file altered."""
    recipe, merged, planned, out, _ = run
    broken = tmp_path / "gguf/tiny-F32.gguf"
    broken.parent.mkdir()
    broken.write_bytes((out / "gguf/tiny-F32.gguf").read_bytes())
    reader = GGUFReader(broken, "r+")
    next(t for t in reader.tensors if t.name == "blk.0.ffn_up.weight").data[:] *= 1.1
    reader.data.flush()
    facts = exported(recipe, merged, planned, tmp_path)
    failed = [gate["name"] for gate in facts["gates"] if not gate["ok"]]
    assert failed == ["F32.gguf kl_all_tokens_to_merged"]


def test_a_refused_format_leaves_the_other(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    shutil.copytree(tiny_model, odd)
    tokenizer = json.loads((odd / "tokenizer.json").read_text())
    digits = {"type": "Digits", "individual_digits": True}
    tokenizer["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [digits, tokenizer["pre_tokenizer"]],
    }
    (odd / "tokenizer.json").write_text(json.dumps(tokenizer))
    recipe = make_recipe(rows, quantize=SCHEMES, export={"check_rows": 1})
    merged = merge(odd, recipe, tmp_path / "merge")
    planned = quantized(recipe, merged, tmp_path / "plan")
    facts = exported(recipe, merged, planned, tmp_path / "out")
    assert [file["name"] for file in facts["files"]] == ["fp32.onnx", "int4.onnx"]
    assert [refusal["scheme"] for refusal in facts["refused"]] == ["F32", "Q4_0"]
    assert "Digits" in facts["refused"][0]["why"]
    assert all(gate["ok"] for gate in facts["gates"])


def test_the_adapter_alone_is_proven(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tiny_model, tmp_path / "tune" / "adapter")
    folded = tmp_path / "folded"
    write_merged(tiny_model, [adapter], folded, "float32")
    settings = {"gguf": ["F32"], "onnx": ["fp32"], "calibration_rows": 4}
    recipe = make_recipe(rows, quantize=settings, export={"check_rows": 2, "adapter": True})
    merged = merge(folded, recipe, tmp_path / "merge")
    planned = quantized(recipe, merged, tmp_path / "plan")
    with pytest.raises(InputError, match="no adapter is known here"):
        exported(recipe, merged, planned, tmp_path / "out")
    facts = {"model": ModelRef(tiny_model, adapter).to_json(tmp_path / "tune")}
    tune = Artifact(tmp_path / "tune", "adapter", "tune", "t", facts=facts)
    facts = exported(recipe, merged, planned, tmp_path / "out", tune=tune)
    paths = ["gguf/tiny-adapter.gguf", "onnx/adapter/adapter.onnx_adapter"]
    assert [made["path"] for made in facts["adapters"]] == paths
    for made, gate in zip(facts["adapters"], facts["gates"][-2:], strict=True):
        assert made["sha256"] == hash_file(tmp_path / "out" / made["path"])
        assert made["tensors"] == 14
        assert max(made["kl_all_tokens"], made["kl_all_tokens_to_merged"]) <= 1e-5
        assert gate["name"] == f"{made['name']} kl_all_tokens_to_base_and_adapter" and gate["ok"]

    contract = merged.path / "model/contract.json"
    assert (tmp_path / "out/onnx/adapter/contract.json").read_bytes() == contract.read_bytes()

    # One that no LoRA file can hold is left out by name, and the rest is written.
    config = adapter / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "use_dora": True}))
    facts = exported(recipe, merged, planned, tmp_path / "again", tune=tune)
    assert facts["adapters"] == [] and facts["files"]
    assert [refusal["scheme"] for refusal in facts["refused"]] == ["adapter", "adapter"]
    assert "DoRA" in facts["refused"][0]["why"]


def test_nothing_left_to_write_is_an_error(
    tiny_model: Path, rows: Path, tmp_path: Path, run: Any
) -> None:
    recipe = make_recipe(rows, quantize=SCHEMES | {"onnx": []}, export={"check_rows": 1})
    merged = merge(tiny_model, recipe, tmp_path / "merge")
    config = merged.path / "model/config.json"
    config.write_text(config.read_text().replace("LlamaForCausalLM", "NobodyForCausalLM"))
    with pytest.raises(Unsupported, match=r"no file can be written: F32: .*NobodyForCausalLM"):
        exported(recipe, merged, run[2], tmp_path / "out")


def plan_of(tiny_model: Path, rows: Path, folder: Path) -> tuple[Recipe, Artifact, Artifact]:
    """Recipe, merged model and a plan of Q8_0 with an importance matrix."""
    settings = {"gguf": ["Q8_0", "F16"], "onnx": [], "calibration_rows": 4}
    recipe = make_recipe(rows, quantize=settings, export={"check_rows": 1})
    merged = merge(tiny_model, recipe, folder / "merge")
    return recipe, merged, quantized(recipe, merged, folder / "plan")


def test_a_file_names_its_importance_matrix(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    recipe, merged, planned = plan_of(tiny_model, rows, tmp_path)
    exported(recipe, merged, planned, tmp_path / "out")
    fields = GGUFReader(tmp_path / "out/gguf/tiny-Q8_0.gguf").fields
    assert fields["edgetune.imatrix.sha256"].contents() == read_plan(planned.path).imatrix_sha256
    assert fields["edgetune.imatrix.sha256"].contents() == hash_file(planned.path / "imatrix.gguf")
    assert fields["quantize.imatrix.file"].contents() == "imatrix.gguf"
    assert fields["quantize.imatrix.entries_count"].contents() == 15
    assert fields["quantize.imatrix.chunks_count"].contents() == 4
    # Half precision rounds each weight by itself: nothing is weighed.
    half = GGUFReader(tmp_path / "out/gguf/tiny-F16.gguf").fields
    assert not [key for key in half if "imatrix" in key]


def test_a_plan_of_another_model_is_refused_first(
    tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    recipe, _, planned = plan_of(tiny_model, rows, tmp_path)
    for name, sizes, said in (
        ("deeper", {"layers": 3}, r"no type for the tensor 'blk\.2\..*the model has"),
        ("shallower", {"layers": 1}, r"a type for the tensor 'blk\.1\..*the model lacks"),
        ("wider", {"hidden": 128}, r"64 columns for '.*', the model 128"),
    ):
        other = make_model(tmp_path / name, **sizes)  # type: ignore[arg-type]
        merged = merge(other, recipe, tmp_path / f"{name}-merge")
        with pytest.raises(InputError, match=said) as error:
            exported(recipe, merged, planned, tmp_path / f"{name}-out")
        assert error.value.exit_code == 2 and error.value.hint and error.value.where
        assert not list((tmp_path / f"{name}-out").rglob("tiny-*.gguf"))


def test_another_importance_matrix_is_refused_first(
    tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    recipe, merged, planned = plan_of(tiny_model, rows, tmp_path)
    _, _, other = plan_of(make_model(tmp_path / "other", seed=3), rows, tmp_path / "o")
    shutil.copy(other.path / "imatrix.gguf", planned.path / "imatrix.gguf")
    said = "not the importance matrix that this plan was made with"
    with pytest.raises(InputError, match=said):
        exported(recipe, merged, planned, tmp_path / "out")
    (planned.path / "imatrix.gguf").unlink()
    with pytest.raises(InputError, match=said):
        exported(recipe, merged, planned, tmp_path / "out")


def test_weights_that_are_not_finite_are_named_first(
    tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    recipe, merged, planned = plan_of(tiny_model, rows, tmp_path)
    path = merged.path / "model/model.safetensors"
    weights = load_file(path)
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = float("inf")
    save_file(weights, path, {"format": "pt"})
    for run_stage in (
        lambda: quantized(recipe, merged, tmp_path / "again"),
        lambda: exported(recipe, merged, planned, tmp_path / "out"),
    ):
        with pytest.raises(InputError, match="1 of 8192 weights are NaN or infinite") as error:
            run_stage()
        assert "model.layers.1.mlp.up_proj.weight" in str(error.value)


def test_a_large_model_is_streamed_to_the_same_files(
    tiny_model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for limit in (1 << 30, 0):
        monkeypatch.setattr(offload, "IN_MEMORY_BYTES", limit)
        recipe, merged, planned = plan_of(tiny_model, rows, tmp_path / str(limit))
        facts = exported(recipe, merged, planned, tmp_path / str(limit) / "out")
        assert all(gate["ok"] for gate in facts["gates"])
        found.append((read_imatrix(planned.path / "imatrix.gguf"), facts["files"]))
    (held, files), (read, others) = found
    for name, means in held.items():
        np.testing.assert_allclose(read[name], means, rtol=1e-5)
    for file, other in zip(files, others, strict=True):
        kl, again = file["checks"]["kl_all_tokens"], other["checks"]["kl_all_tokens"]
        assert again == pytest.approx(kl, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize(
    ("template", "carried"), [("auto", False), ("plain", False), ("plain", True)]
)
def test_a_model_without_the_rows_template_is_exported(
    template: str, carried: bool, tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    model = tmp_path / "base"
    shutil.copytree(tiny_model, model)
    if not carried:
        (model / "chat_template.jinja").unlink()
    wanted = {"gguf": ["F32"], "onnx": ["fp32"], "calibration_rows": 4}
    data = {"train": str(rows), "template": template}
    recipe = make_recipe(rows, quantize=wanted, export={"check_rows": 2}, data=data)
    merged = Artifact(model, "model", "merge", "0", facts={"folder": "."})
    planned = quantized(recipe, merged, tmp_path / "plan")
    facts = exported(recipe, merged, planned, tmp_path / "out")
    assert [gate["ok"] for gate in facts["gates"]] == [True] * 4
    (gguf,) = (tmp_path / "out/gguf").glob("*.gguf")
    assert ("tokenizer.chat_template" in GGUFReader(gguf).fields) == carried


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left"), MemoryError(), RuntimeError("std::bad_alloc")]
)
@pytest.mark.parametrize("builder", ["gguf", "onnx"])
def test_a_full_machine_is_no_refusal(
    builder: str, error: Exception, tiny_model: Path, rows: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Else the file would be missing for good: refused, a passing verdict, done already."""
    wanted = {"gguf": ["F32"], "onnx": ["fp32"], "calibration_rows": 4}
    recipe = make_recipe(rows, quantize=wanted, export={"check_rows": 2})
    merged = merge(tiny_model, recipe, tmp_path / "merge")
    planned = quantized(recipe, merged, tmp_path / "plan")

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("conversion fails") from error

    if builder == "gguf":
        monkeypatch.setattr("edgetune.export.gguf.f32.make_converter", fail)
    else:
        monkeypatch.setattr("onnxruntime_genai.models.builder.create_model", fail)
    with pytest.raises(MachineFault):
        exported(recipe, merged, planned, tmp_path / "out")
