"""What can be known before any work is refused before any work, by the key that is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgetune.errors import GateFailed, InputError, Unsupported
from edgetune.models.shape import context_of
from edgetune.preflight import REPORT, check_devices, check_run
from edgetune.preflight.sections import check_recipe
from edgetune.recipe import Recipe
from edgetune.source_hashes import find_sources, sources_of
from tests.tiny_classifiers import make_classifier

STAGES = ("tune", "distill", "merge", "quantize", "export", "bench", REPORT)


def make_recipe(path: Path, rows: Path, **sections: Any) -> Recipe:
    """A recipe of every stage but distill, with small rows."""
    data = {"train": str(rows), "max_length": 64, **sections.pop("data", {})}
    every = {name: {} for name in ("tune", "merge", "quantize", "export", "bench")}
    base = {"path": str(path), **sections.pop("model", {})}
    return Recipe.model_validate({"model": base, "data": data, **every, **sections})


def check(recipe: Recipe) -> list[str]:
    stages = [name for name in STAGES if name == REPORT or getattr(recipe, name) is not None]
    return check_run(recipe, stages)


def gate(**limits: Any) -> dict[str, Any]:
    return {"gates": [limits]}


def classifier(**keys: Any) -> dict[str, Any]:
    return {"fairness": {"classifier": {"rude": {"label": "rude", **keys}}}}


def budget(text: str, **more: Any) -> dict[str, Any]:
    return {"quantize": {"gguf": [], "onnx": [], "budget": [text], **more}}


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"report": gate(measurement="exact_mach", min=0.5)},
         ["report.gates[0].measurement", "did you mean 'exact_match'"]),
        ({"report": gate(measurement="bits_per_weight", max=5)}, ["no measurement"]),
        ({"report": gate(measurement="perplexity", models="*Q9_0*", max=3)},
         ["gates[0].models", "Q8_0.gguf", "merged"]),
        ({"report": gate(measurement="kl_answer_tokens_to_merged", models="teacher", max=3)},
         ["is not measured of teacher", "Q4_K_M.gguf"]),
        ({"report": gate(measurement="kl_answer_tokens", models="teacher", max=3)},
         ["is not measured of teacher"]),
        ({"report": gate(measurement="perplexity", models="merged")}, ["has no limit"]),
        ({"report": gate(measurement="f1_macr", min=0.5)}, ["did you mean 'f1_macro'"]),
        ({"report": gate(measurement="accuracy", slice="languag=de", min=0.5)},
         ["gates[0].slice", "no slice 'languag=de'", "length, label"]),
        ({"report": gate(measurement="accuracy", reference="teecher", min=-0.02)},
         ["gates[0].reference", "did you mean 'teacher'"]),
        ({"report": gate(measurement="accuracy", reference="base, 3 examples", min=0),
          "bench": {"prompting": {"shots": [4]}}}, ["did you mean 'base, 4 examples'"]),
        ({"report": gate(measurement="accuracy", min=0.5), "bench": {"task": "exact"}},
         ["no measurement 'accuracy'"]),
        ({"bench": {"slices": ["promt"]}}, ["bench.slices", "no column 'promt'", "did you mean"]),
        ({"bench": {"prompting": {"larger": "no/such/model/here"}}}, ["no such model folder"]),
        ({"bench": {"fairness": {"attributes": ["gendr"]}}}, ["did you mean 'gender'"]),
        ({"bench": {"fairness": {"lists": "no/lists.yaml"}}}, ["bench.fairness.lists"]),
        ({"bench": classifier(model="no/such/folder")},
         ["bench.fairness.classifier.rude.model: no/such/folder", "no such model folder"]),
        ({"bench": classifier(model="no/folder")},  # as a hub id would be written
         ["bench.fairness.classifier.rude.model: no/folder", "HF_HUB_OFFLINE"]),
        ({"bench": classifier(model="embedded:base")},
         ["bench.fairness.classifier.rude.model", "no sequence classifier"]),
        ({"report": gate(measurement="classifier_rude_rat", max=0.1)},
         ["no measurement 'classifier_rude_rat'"]),
        ({"report": gate(measurement="perplexity", min=3, max=2)}, ["min 3 is above max 2"]),
        ({"report": gate(measurement="perplexity", max=2), "bench": None}, ["add a section"]),
        ({"data": {"max_length": 513}}, ["data.max_length", "context of 512", "512 or less"]),
        ({"tune": {"optimizer": "paged_adamw_8bit"}, "model": {"device": "cpu"}},
         ["tune.optimizer", "on the CPU"]),
        ({"tune": {"rank": 65}}, ["tune.rank", "64 at most", "32 or less"]),
        ({"tune": {"rank_pattern": {"q_proj": 65}}}, ["tune.rank", "64 at most"]),
        ({"tune": {"target_modules": ["q_porj"]}},
         ["tune.target_modules", "did you mean 'q_proj'"]),
        ({"tune": {"modules_to_save": ["head"]}}, ["tune.modules_to_save", "lm_head"]),
        ({"tune": {"dora": True}, "export": {"adapter": True}},
         ["tune.dora", "export.adapter: false"]),
        ({"tune": {"target_modules": ["lm_head"]}, "export": {"adapter": True}},
         ["tune.target_modules", "would change both"]),
        ({"tune": {"modules_to_save": ["norm"]}, "export": {"adapter": True}},
         ["tune.modules_to_save", "low-rank updates only"]),
        ({"distill": {"student": {"layers": 2}}}, ["distill.student.layers", "has 2 layers"]),
        ({"distill": {"student": {"layers": 40}}}, ["student of 40 is no smaller"]),
        ({"distill": {"student": {"mlp": 160}}}, ["distill.student.mlp", "the teacher's 128"]),
        ({"distill": {"student": {"hidden": 33}}}, ["distill.student.hidden", "multiple of 32"]),
        ({"distill": {"student": {"heads": 3}}}, ["distill.student.heads"]),
        ({"distill": {"student": {"config": "none.json"}}}, ["none.json", "no such file"]),
        ({"distill": {"train": "lora", "rank": 99, "student": {"layers": 1}}}, ["distill.rank"]),
        ({"data": {"columns": {"prompt": "promt", "completion": "completion"}}},
         ["data.columns.prompt", "did you mean 'prompt'"]),
        ({"data": {"columns": {"prompt": "prompt", "completion": "b", "system": "c"}}},
         ["data.columns.completion", "has prompt, completion"]),
    ],
)  # fmt: skip
def test_faults_are_named_before_any_work(
    tiny_model: Path, device_rows: Path, sections: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(InputError) as error:
        check(make_recipe(tiny_model, device_rows, **sections))
    for word in words:
        assert word in str(error.value)


def test_a_classifier_is_checked_for_its_label_and_gates_may_ask_it(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    folder = make_classifier(tmp_path / "polite")
    held = gate(measurement="classifier_rude_rate", models="*.gguf", max=0.01)
    bench = classifier(model=str(folder))
    recipe = make_recipe(tiny_model, device_rows, bench=bench, report=held)
    check(recipe)
    before = sources_of(("bench",), find_sources(recipe))
    (folder / "vocab.txt").write_text("[PAD]")
    assert sources_of(("bench",), find_sources(recipe)) != before, "another model is asked again"
    wrong = make_recipe(tiny_model, device_rows, bench=classifier(model=str(folder), label="rud"))
    with pytest.raises(InputError, match=r"no label 'rud'.*did you mean 'rude'"):
        check(wrong)
    with pytest.raises(InputError, match="no measurement"):
        check(make_recipe(tiny_model, device_rows, report=held))


@pytest.mark.parametrize("section", ["merge", "distill"])
def test_a_reward_model_is_not_shipped(section: str, tiny_model: Path, device_rows: Path) -> None:
    wanted = {"tune": {"objective": "reward"}, "distill": None, section: {}}
    recipe = make_recipe(tiny_model, device_rows, **wanted)
    with pytest.raises(InputError, match=f"scores answers and writes none: {section}"):
        check_recipe(recipe)


@pytest.mark.parametrize(
    "sections",
    [
        {"report": gate(measurement="exact_match", models="teacher", min=0.5)},
        {"report": gate(measurement="kl_answer_tokens", models="base", max=9)},
        {"report": gate(measurement="kl_answer_tokens_to_merged", models="*.onnx", max=1)},
        {"report": gate(measurement="perplexity", models="auto-Q4_0*", max=1),
         **budget("bytes=Q4_0")},
        {"data": {"max_length": 512}},
        {"tune": {"rank": 32}},
        {"tune": {"method": "full", "rank": 16}},
        {"distill": {"student": {"layers": 1}}},
        {"distill": {"student": {"layers": 2, "mlp": 64}}},
        {"distill": {"student": {"heads": 2, "hidden": 32}}},
        {"data": {"columns": {"prompt": "prompt", "completion": "completion"}}},
        budget("bytes=1MB"),
        budget("bits=4.6"),
    ],
)  # fmt: skip
def test_what_can_be_passes(tiny_model: Path, device_rows: Path, sections: dict[str, Any]) -> None:
    check(make_recipe(tiny_model, device_rows, **sections))


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("bytes=20KB", {}),
        ("bits=2", {}),  # rows of 64: no K-quant has them
        ("bits=8", {"types": ["Q8_0"]}),
        ("onnx:bits=2", {}),
        ("onnx:bytes=10KB", {}),
    ],
)
def test_budgets_below_the_smallest_file(
    tiny_model: Path, device_rows: Path, text: str, more: dict[str, Any]
) -> None:
    with pytest.raises(GateFailed, match="the smallest file possible has"):
        check(make_recipe(tiny_model, device_rows, **budget(text, **more)))
    smaller = {"distill": {"student": {"layers": 1}}}
    with pytest.raises(GateFailed, match=r"quantize\.budget"):
        check(make_recipe(tiny_model, device_rows, **budget(text, **more), **smaller))


def test_a_smaller_student_fits(tiny_model: Path, device_rows: Path) -> None:
    recipe = budget("bytes=52KB", imatrix=True)
    with pytest.raises(GateFailed):
        check(make_recipe(tiny_model, device_rows, **recipe))
    check(make_recipe(tiny_model, device_rows, distill={"student": {"layers": 1}}, **recipe))


def test_doubtful_settings_are_warned_of(tiny_model: Path, device_rows: Path) -> None:
    old = gate(measurement="kl_divergence_to_merged", models="*Q8_0*", max=0.1)
    recipe = make_recipe(tiny_model, device_rows, tune={"rank": 40}, report=old)
    recipe = recipe.model_copy(
        update={"data": recipe.data.model_validate({"train": str(device_rows)})}  # type: ignore[union-attr]
    )
    warnings = check(recipe)
    assert any("is called kl_answer_tokens_to_merged now" in said for said in warnings)
    assert any("more than the model's context of 512" in said for said in warnings)
    assert any("tune.rank: 40 is more than the rank of" in said for said in warnings)


def test_models_are_looked_at_whole(tmp_path: Path, tiny_model: Path, device_rows: Path) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "m"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["NobodyLM"]}))
    with pytest.raises(Unsupported, match="none of the files asked for"):
        check(make_recipe(folder, device_rows))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="no tokenizer"):
        check(make_recipe(folder, device_rows))


def test_data_that_may_not_be_read(
    tiny_model: Path, device_rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # for root all is allowed
    with pytest.raises(InputError, match="may not read this file"):
        check(make_recipe(tiny_model, device_rows))


@pytest.mark.parametrize(
    ("sections", "key"),
    [({"model": {"device": "cuda"}}, "model.device"),
     ({"bench": {"devices": ["cpu", "cuda"]}}, "bench.devices")],
)  # fmt: skip
def test_a_device_that_is_absent_is_refused_before_any_work(
    tiny_model: Path, device_rows: Path, sections: dict[str, Any], key: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    recipe = make_recipe(tiny_model, device_rows, **sections)
    with pytest.raises(InputError, match="no CUDA device") as error:
        check_devices(recipe, STAGES[:-1])
    assert error.value.where == key
    check_devices(recipe, ())  # what is made already is reported anywhere


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ({"max_position_embeddings": 2048}, 2048),
        ({"n_positions": 1024}, 1024),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4.0}},
         16384),
        ({"max_position_embeddings": 32768, "rope_scaling": {
            "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}},
         131072),
        ({"max_position_embeddings": 131072, "rope_parameters": {
            "rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}},
         131072),
        ({"max_position_embeddings": 131072, "rope_parameters": {
            "rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096}},
         131072),
        ({}, None),
    ],
)  # fmt: skip
def test_context_as_families_say_it(config: dict[str, Any], context: int | None) -> None:
    assert context_of(config) == context


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ({"objective": "dpo"}, "dpo cannot be trained on rows of the shape prompt_completion"),
        ({"objective": "grpo"}, "nothing would be learned"),
    ],
)
def test_a_step_that_cannot_train_is_refused_before_any_work(
    step: dict[str, object], fault: str, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n')
    tree = {"model": {"path": "embedded:base"}, "data": {"train": str(rows)}, "tune": [{}, step]}
    with pytest.raises(InputError, match=fault):
        check_run(Recipe.model_validate(tree), ("tune",))
