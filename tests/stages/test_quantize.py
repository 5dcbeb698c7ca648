"""quantize: the plan is llama.cpp's mix, weighed by the user's train rows, and repeatable."""

from __future__ import annotations

import itertools
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgetune.artifact import Artifact, hash_file
from edgetune.data.build_encoder import make_encoder
from edgetune.data.contract import write_contract
from edgetune.data.dataset.make import load_splits
from edgetune.errors import GateFailed, InputError
from edgetune.facts import to_json
from edgetune.log import Log
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.quantize.calibration.imatrix import read_imatrix
from edgetune.quantize.formats.nbits import dequantize_nbits
from edgetune.quantize.plan import read_plan, read_quants, write_plan
from edgetune.recipe import Recipe, Sections
from edgetune.runtimes.genai_folder import find_graph
from edgetune.stages import export, quantize
from tests.conftest import make_model

LOG = Log(quiet=True)


def merge(tiny_model: Path, recipe: Recipe, folder: Path) -> Artifact:
    """What the merge stage leaves: the model and its contract."""
    assert recipe.data is not None
    shutil.copytree(tiny_model, folder / "model")
    encoder = make_encoder(load_tokenizer(tiny_model), recipe.data, None)
    rows = load_splits(recipe.data, recipe.seed, LOG)
    write_contract(encoder, rows.test, folder / "model")
    return Artifact(folder, "model", "merge", "key")


def make_recipe(rows: Path, **sections: dict[str, object]) -> Recipe:
    base = {"model": {"path": "unused"}, "data": {"train": str(rows)}, "name": "tiny"}
    return Recipe.model_validate(base | sections)


def judging(rows: Path) -> dict[str, object]:
    """Rows of which enough are for validation: an interval over them decides what is kept."""
    return {"train": str(rows), "validation_fraction": 0.35}


def quantized(recipe: Recipe, merged: Artifact, out: Path) -> Artifact:
    out.mkdir()
    sections = Sections(recipe, ("file_name", "device", "data", "quantize"))
    facts = to_json(quantize.run(sections, {"merge": merged}, out, LOG))
    return Artifact(out, "plan", "quantize", "key", facts=facts)


def test_plans_every_scheme(tiny_model: Path, device_rows: Path, tmp_path: Path) -> None:
    settings = {"gguf": ["F32", "Q4_K_M"], "onnx": ["int4"], "calibration_rows": 8}
    recipe = make_recipe(device_rows, quantize=settings)
    made = quantized(recipe, merge(tiny_model, recipe, tmp_path / "merge"), tmp_path / "plan")
    plan = read_plan(made.path)
    assert list(plan.gguf) == ["F32", "Q4_K_M"]
    assert set(plan.gguf["F32"].values()) == {"F32"}
    assert plan.gguf["Q4_K_M"]["blk.0.attn_q.weight"] == "Q5_0"  # rows of 64 hold no K-quant
    assert {f["scheme"] for f in plan.fallbacks} == {"Q4_K_M"}
    assert made.facts["fallbacks"] == plan.fallbacks
    assert plan.onnx["int4"]["weights"] == "Q4_0"
    assert plan.imatrix_sha256 == hash_file(made.path / "imatrix.gguf")
    assert plan.calibration["rows"] == 8
    assert len(read_imatrix(made.path / "imatrix.gguf")) == 15


def test_the_seed_decides_the_calibration_rows(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    hashes = []
    for number, seed in enumerate((0, 0, 1)):
        settings = {"gguf": [], "onnx": ["int8"], "calibration_rows": 4}
        recipe = make_recipe(device_rows, quantize=settings).model_copy(update={"seed": seed})
        merged = merge(tiny_model, recipe, tmp_path / f"merge{number}")
        made = quantized(recipe, merged, tmp_path / f"plan{number}")
        hashes.append((made.facts["calibration"]["sha256"], made.facts["importance"]["sha256"]))
    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]


def test_without_an_importance_matrix(tiny_model: Path, device_rows: Path, tmp_path: Path) -> None:
    recipe = make_recipe(device_rows, quantize={"gguf": ["Q4_0"], "onnx": [], "imatrix": False})
    made = quantized(recipe, merge(tiny_model, recipe, tmp_path / "merge"), tmp_path / "plan")
    assert not (made.path / "imatrix.gguf").exists()
    assert read_plan(made.path).imatrix_sha256 is None


def test_an_importance_matrix_needs_data(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(device_rows, quantize={})
    merged = merge(tiny_model, recipe, tmp_path / "merge")
    with pytest.raises(InputError, match="needs data"):
        quantized(recipe.model_copy(update={"data": None}), merged, tmp_path / "plan")


def test_quants_of_qat_are_those_that_ship(device_rows: Path, tmp_path: Path) -> None:
    """Search, training and export: the file has the trained bytes, and they are closer."""
    from gguf import GGUFReader

    settings = {
        "gguf": ["Q4_K_M"], "onnx": [], "budget": ["bytes=Q4_K_M"], "method": "qat",
        "calibration_rows": 32, "search_tokens": 256,
        "qat": {"max_steps": 80, "batch_size": 4, "learning_rate": 0.01},
    }  # fmt: skip
    recipe = make_recipe(
        device_rows, data=judging(device_rows), quantize=settings, export={"check_rows": 4}
    )
    model = make_model(tmp_path / "model", layers=2, hidden=256)
    merged = merge(model, recipe, tmp_path / "merge")
    plan = quantized(recipe, merged, tmp_path / "plan")
    (found,) = plan.facts["requantized"]
    assert found["kept"] and found["kl_after"] < found["kl_before"], found
    out = tmp_path / "files"
    out.mkdir()
    sections = Sections(recipe, ("file_name", "device", "data", "quantize", "export"))
    facts = to_json(export.run(sections, {"merge": merged, "quantize": plan}, out, LOG))
    file = next(one for one in facts["files"] if one["scheme"] == "auto-Q4_K_M")
    wanted = read_quants(plan.path, "auto-Q4_K_M.gguf")
    held = {tensor.name: tensor.data.tobytes() for tensor in GGUFReader(out / file["path"]).tensors}
    assert all(held[name] == raw.tobytes() for name, raw in wanted.items())
    assert file["checks"]["token_ids_equal"]
    stock = next(one for one in facts["files"] if one["scheme"] == "Q4_K_M")
    assert file["checks"]["kl_all_tokens"] < stock["checks"]["kl_all_tokens"]


def test_quants_of_autoround_are_those_that_ship(device_rows: Path, tmp_path: Path) -> None:
    """Search among its types, AutoRound, export: the file has its bytes, and they are closer."""
    from gguf import GGUFReader

    settings = {
        "gguf": [], "onnx": [], "budget": ["bits=4.6"], "method": "autoround",
        "calibration_rows": 34, "search_tokens": 128,
        "autoround": {"iterations": 60, "batch_size": 4},
    }  # fmt: skip
    recipe = make_recipe(
        device_rows, data=judging(device_rows), quantize=settings, export={"check_rows": 4}
    )
    merged = merge(make_model(tmp_path / "model", layers=1), recipe, tmp_path / "merge")
    plan = quantized(recipe, merged, tmp_path / "plan")
    (found,) = plan.facts["requantized"]
    assert found["method"] == "autoround" and found["kept"], found
    assert set(read_plan(plan.path).gguf["auto-4.6bpw"].values()) <= {"F32", "Q4_0", "Q5_0", "Q8_0"}
    file = export_files(recipe, merged, plan, tmp_path / "files")["auto-4.6bpw.gguf"]
    wanted = read_quants(plan.path, "auto-4.6bpw.gguf")
    tensors = GGUFReader(tmp_path / "files" / file["path"]).tensors
    held = {tensor.name: tensor.data.tobytes() for tensor in tensors}
    assert len(wanted) == 8 and all(held[name] == raw.tobytes() for name, raw in wanted.items())


def export_files(recipe: Recipe, merged: Artifact, plan: Artifact, out: Path) -> dict[str, Any]:
    out.mkdir()
    sections = Sections(recipe, ("file_name", "device", "data", "quantize", "export"))
    facts = to_json(export.run(sections, {"merge": merged, "quantize": plan}, out, LOG))
    return {file["name"]: file for file in facts["files"]}


def test_an_onnx_folder_for_a_budget(device_rows: Path, tmp_path: Path) -> None:
    """Searched, written and run: within its bytes, closer than int4, as far off as was measured."""
    settings = {
        "gguf": [], "onnx": ["int4"], "budget": ["onnx:bytes=int4", "onnx:kl=0.05", "bits=4.5",
        "onnx:bits=4.5"], "calibration_rows": 32, "search_tokens": 256,
    }  # fmt: skip
    recipe = make_recipe(device_rows, quantize=settings, export={"check_rows": 8})
    merged = merge(make_model(tmp_path / "model", layers=2, hidden=256), recipe, tmp_path / "merge")
    plan = quantized(recipe, merged, tmp_path / "plan")
    found = {row["name"]: row for row in plan.facts["search_onnx"]["results"]}
    assert set(found) == {"auto-int4", "auto-kl0.05", "auto-4.5bpw"}
    assert plan.facts["search_onnx"]["rank_correlation"] > 0.9
    assert found["auto-kl0.05"]["kl_measured"] <= 0.05
    assert found["auto-4.5bpw"]["bits_per_weight"] <= 4.5
    files = export_files(recipe, merged, plan, tmp_path / "files")
    assert {"auto-4.5bpw.gguf", "auto-4.5bpw.onnx"} <= set(files)
    stock = files["int4.onnx"]
    for name, row in found.items():
        file = files[f"{name}.onnx"]
        assert 0 <= row["bytes"] - file["bytes"] < 6000, name  # names are longest for uint4_g32
        assert file["checks"]["kl_all_tokens"] < 1.5 * row["kl_measured"] + 2e-3
        assert file["checks"]["token_ids_equal"] and file["fallbacks"] == []
    assert files["auto-int4.onnx"]["bytes"] <= stock["bytes"] + 6000
    assert (
        files["auto-int4.onnx"]["checks"]["kl_all_tokens"] < 0.9 * stock["checks"]["kl_all_tokens"]
    )


def test_a_budget_s_file_has_only_the_types_of_the_recipe(
    device_rows: Path, tmp_path: Path
) -> None:
    """And a budget in the bytes of a scheme whose own types are none of them."""
    settings = {
        "gguf": ["Q4_K_M"], "onnx": [], "budget": ["bytes=Q4_K_M", "onnx:bytes=int4"],
        "types": ["Q8_0", "Q4_0", "int4_g64"], "calibration_rows": 16, "search_tokens": 128,
    }  # fmt: skip
    recipe = make_recipe(device_rows, quantize=settings, export={"check_rows": 4})
    merged = merge(make_model(tmp_path / "model", layers=2, hidden=256), recipe, tmp_path / "merge")
    plan = quantized(recipe, merged, tmp_path / "plan")
    made = read_plan(plan.path)
    kinds = {kind for name, kind in made.gguf["auto-Q4_K_M"].items() if "norm" not in name}
    assert kinds == {"Q8_0", "Q4_0"}
    assert set(made.onnx["auto-int4"]["types"].values()) <= {"Q8_0", "Q4_0", "int4_g64"}
    files = export_files(recipe, merged, plan, tmp_path / "files")
    assert files["auto-Q4_K_M.gguf"]["bytes"] <= files["Q4_K_M.gguf"]["bytes"] + 64


@pytest.mark.parametrize("kind", ["gguf", "onnx"])
def test_a_budget_at_its_edge(kind: str, device_rows: Path, tmp_path: Path) -> None:
    """A file has the bytes that were counted; one less than the smallest has is refused."""
    model, number = make_model(tmp_path / "model", layers=1, hidden=64), itertools.count()
    prefix = "onnx:" if kind == "onnx" else ""

    def plan_for(*budgets: str) -> tuple[Recipe, Artifact, Artifact]:
        settings = {
            "gguf": [], "onnx": [], "method": "rtn",
            "budget": [prefix + budget for budget in budgets],
            "calibration_rows": 4, "search_tokens": 64,
        }  # fmt: skip
        recipe = make_recipe(device_rows, quantize=settings, export={"check_rows": 2})
        folder = tmp_path / str(next(number))
        folder.mkdir()
        merged = merge(model, recipe, folder / "merge")
        return recipe, merged, quantized(recipe, merged, folder / "plan")

    with pytest.raises(GateFailed, match="smallest file possible has") as caught:
        plan_for("bytes=1KB")
    found = re.search(r"\(([\d,]+) bytes\)", caught.value.what)
    assert found is not None
    least = int(found[1].replace(",", ""))
    with pytest.raises(GateFailed, match="1 B over the budget"):
        plan_for(f"bytes={least - 1}")
    some = least + 10_007
    recipe, merged, plan = plan_for(f"bytes={least}", f"bytes={some}", "kl=0.5")
    files = export_files(recipe, merged, plan, tmp_path / "files")
    assert files[f"auto-{least}.{kind}"]["bytes"] == least
    assert least <= files[f"auto-{some}.{kind}"]["bytes"] <= some
    rows = plan.facts["search" if kind == "gguf" else "search_onnx"]["results"]
    for row in rows:
        assert files[f"{row['name']}.{kind}"]["bytes"] == row["bytes"], row
    assert read_plan(plan.path).budgets == {f"auto-{n}.{kind}": n for n in (least, some)}
    if kind == "onnx":  # it has no name of its own inside
        return
    # The same plan under a name that makes the header longer: what was written is counted again.
    longer = recipe.model_copy(update={"name": "n" * 150})
    (tmp_path / "longer").mkdir()
    sections = Sections(longer, ("file_name", "device", "data", "quantize", "export"))
    stages = {"merge": merged, "quantize": plan}
    gates = to_json(export.run(sections, stages, tmp_path / "longer", LOG))["gates"]
    (gate,) = (one for one in gates if one["name"] == f"auto-{least}.gguf bytes")
    assert not gate["ok"] and gate["value"] > gate["limit"] == least


def test_an_onnx_budget_nothing_meets(tiny_model: Path, device_rows: Path, tmp_path: Path) -> None:
    settings = {"gguf": [], "onnx": [], "budget": ["onnx:bytes=20KB"], "calibration_rows": 8}
    recipe = make_recipe(device_rows, quantize=settings)
    merged = merge(tiny_model, recipe, tmp_path / "merge")
    with pytest.raises(GateFailed, match=r"smallest file possible has .*") as caught:
        quantized(recipe, merged, tmp_path / "plan")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("scales", ["kept", "learned"])
def test_an_onnx_folder_holds_the_quants_of_qat(
    scales: str, device_rows: Path, tmp_path: Path
) -> None:
    """Fused q, k, v and types with zeros of their own: the trained bytes, and they are closer."""
    from edgetune.runtimes import open_runtime

    settings = {
        "gguf": [], "onnx": ["fp32"], "budget": ["onnx:bits=3.9"], "method": "qat",
        "calibration_rows": 32, "search_tokens": 256,
        "qat": {"max_steps": 80, "batch_size": 4, "learning_rate": 0.01, "scales": scales},
    }  # fmt: skip
    recipe = make_recipe(
        device_rows, data=judging(device_rows), quantize=settings, export={"check_rows": 4}
    )
    merged = merge(make_model(tmp_path / "model", layers=2, hidden=256), recipe, tmp_path / "merge")
    plan = quantized(recipe, merged, tmp_path / "plan")
    (found,) = plan.facts["requantized"]
    assert found["kept"] and found["kl_after"] < found["kl_before"], found
    # Activations stay float32, so that nothing but the weights can differ.
    planned = read_plan(plan.path)
    planned.onnx["auto-3.9bpw"]["accuracy_level"] = 1
    write_plan(planned, plan.path)
    files = export_files(recipe, merged, plan, tmp_path / "files")
    trained, types = (
        read_quants(plan.path, "auto-3.9bpw.onnx"),
        planned.onnx["auto-3.9bpw"]["types"],
    )
    assert any(kind.startswith("uint") for kind in types.values())
    assert any("qkv_proj" in name for name in trained)
    values = {name: dequantize_nbits(raw, types[name]) for name, raw in trained.items()}
    plain, made = (
        tmp_path / "files" / files[f"{name}.onnx"]["path"] for name in ("fp32", "auto-3.9bpw")
    )
    shutil.copytree(plain, tmp_path / "rounded")
    put_in(tmp_path / "rounded", values)
    wanted, given = (
        open_runtime(folder).logits([5, 9, 17, 33, 2, 40])
        for folder in (tmp_path / "rounded", made)
    )
    assert np.abs(wanted - given).max() < 1e-4 * np.abs(wanted).max()


def test_an_onnx_folder_holds_the_quants_of_autoround(device_rows: Path, tmp_path: Path) -> None:
    from edgetune.diagnose.tensors import OnnxTensors

    settings = {
        "gguf": [], "onnx": [], "budget": ["onnx:bits=7"], "method": "autoround",
        "calibration_rows": 34, "search_tokens": 128,
        "autoround": {"iterations": 60, "batch_size": 4},
    }  # fmt: skip
    recipe = make_recipe(
        device_rows, data=judging(device_rows), quantize=settings, export={"check_rows": 4}
    )
    merged = merge(make_model(tmp_path / "model", layers=1), recipe, tmp_path / "merge")
    plan = quantized(recipe, merged, tmp_path / "plan")
    (found,) = plan.facts["requantized"]
    assert (found["method"], found["format"]) == ("autoround", "onnx") and found["kept"], found
    file = export_files(recipe, merged, plan, tmp_path / "files")["auto-7bpw.onnx"]
    graph = find_graph(tmp_path / "files" / file["path"])
    mine = OnnxTensors(graph.parent, graph.name)
    types = read_plan(plan.path).onnx["auto-7bpw"]["types"]
    wanted = read_quants(plan.path, "auto-7bpw.onnx")
    assert set(wanted) == set(types)
    for name, raw in wanted.items():
        if "lm_head" not in name:
            assert np.array_equal(mine.read(name).T, dequantize_nbits(raw, types[name])), name


def put_in(folder: Path, values: dict[str, np.ndarray]) -> None:
    """Replace the matrices of a float32 ONNX folder, by node name, each [out, in]."""
    graph = onnx.load(find_graph(folder))
    weights = {each.name: each for each in graph.graph.initializer}
    nodes = {node.name: node for node in graph.graph.node}
    for name, matrix in values.items():
        weight = weights[nodes[name].input[1]]
        weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(matrix.T), weight.name))
    onnx.save(graph, find_graph(folder))


def test_both_containers_hold_the_same_blocks(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    """A Q4_0 tensor of the GGUF file and the node of the int4 graph: one matrix, one rounding."""
    from gguf import GGUFReader

    from edgetune.diagnose.tensors import OnnxTensors

    settings = {"gguf": ["Q4_0"], "onnx": ["int4"], "calibration_rows": 8}
    recipe = make_recipe(device_rows, quantize=settings, export={"check_rows": 4})
    merged = merge(tiny_model, recipe, tmp_path / "merge")
    plan = quantized(recipe, merged, tmp_path / "plan")
    files = export_files(recipe, merged, plan, tmp_path / "files")
    held = GGUFReader(tmp_path / "files" / files["Q4_0.gguf"]["path"]).tensors
    graph = find_graph(tmp_path / "files" / files["int4.onnx"]["path"])
    mine = OnnxTensors(graph.parent, graph.name)
    compared = 0
    for tensor in held:
        parts = {"ffn_up": "mlp/up_proj", "ffn_down": "mlp/down_proj", "ffn_gate": "mlp/gate_proj"}
        _, layer, part, *_ = (*tensor.name.split("."), "", "", "")
        if part in parts and tensor.tensor_type.name == "Q4_0":
            node = f"/model/layers.{layer}/{parts[part]}/MatMul"
            theirs = dequantize_nbits(np.ascontiguousarray(tensor.data), "Q4_0")
            assert np.array_equal(mine.read(node).T, theirs), node
            compared += 1
    assert compared == 6


def test_evaluation_rows_are_excluded_from_calibration(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(device_rows, quantize={"gguf": ["Q8_0"], "onnx": []})
    assert recipe.data is not None
    same = recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"test": str(device_rows)})}
    )
    with pytest.raises(InputError, match="share a prompt with evaluation rows"):
        quantized(same, merge(tiny_model, recipe, tmp_path / "merge"), tmp_path / "plan")


def test_a_method_that_needs_a_budget_is_refused_without_one(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(device_rows, quantize={"gguf": ["Q8_0"], "onnx": [], "method": "qat"})
    merged = merge(tiny_model, recipe, tmp_path / "merge")
    with pytest.raises(InputError, match="no file is trained"):
        quantized(recipe, merged, tmp_path / "plan")
    recipe = make_recipe(device_rows, quantize={"gguf": ["Q4_0"], "method": "autoround"})
    with pytest.raises(InputError, match="no file is rounded by AutoRound"):
        quantized(recipe, merged, tmp_path / "plan2")
