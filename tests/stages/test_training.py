"""tune and merge in every way they can train, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from edgetune.artifact import Artifact
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.pipeline import run_alone
from edgetune.recipe.load import check_tree

QUIET = Log(quiet=True)
KNOBS = {"max_steps": 4, "batch_size": 8, "eval_every": 2, "save_every": 2, "learning_rate": 5e-3}


def run(
    stage: str, model: Path, rows: Path, out: Path, inputs: dict[str, Artifact], **section: Any
) -> Artifact:
    """Run one stage with a recipe of its own."""
    tree = {
        "seed": 1,
        "model": {"path": str(model)},
        "data": {"train": str(rows), "max_length": 48},
        stage: section,
    }
    return run_alone(stage, check_tree(tree, "test"), inputs, out, QUIET)


@torch.no_grad()
def logits(ref: ModelRef) -> torch.Tensor:
    return load_model(ref)(input_ids=torch.arange(3, 30)[None]).logits


@pytest.mark.parametrize("method", ["qlora", "lora", "full"])
def test_what_is_merged_is_what_was_tuned(
    method: str, tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    adapter = {} if method == "full" else {"rank": 4}
    tuned = run(
        "tune", tiny_model, device_rows, tmp_path / "t", {},
        method=method, packing=False, patience=2, **adapter, **KNOBS,
    )  # fmt: skip
    assert tuned.facts["steps"] == 4 and tuned.facts["end_token"] == "<|im_end|>"
    curve = [json.loads(line) for line in (tuned.path / "metrics.jsonl").read_text().splitlines()]
    assert {"loss", "eval_loss"} <= {key for row in curve for key in row}
    trained = ModelRef.from_json(tuned.facts["model"], tuned.path)
    assert trained.nf4 == (method == "qlora")
    merged = run("merge", tiny_model, device_rows, tmp_path / "m", {"tune": tuned}, dtype="float32")
    kl = {c["base"]: c["kl_answer_tokens"] for c in merged.facts["candidates"]}
    assert set(kl) == ({"original", "dequantized"} if method == "qlora" else {"original"})
    assert kl[merged.facts["chosen"]] == min(kl.values()) < 1e-6
    said = json.loads((merged.model_folder / "generation_config.json").read_text())
    contract = json.loads((merged.model_folder / "contract.json").read_text())
    assert said["eos_token_id"] in (contract["stop_ids"], *contract["stop_ids"])
    wanted = logits(trained)
    torch.testing.assert_close(logits(ModelRef(merged.model_folder)), wanted, atol=2e-3, rtol=1e-3)
    assert (wanted - logits(ModelRef(tiny_model))).abs().max() > 1e-2, "nothing was trained"


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "lora", "init": "pissa", "lora_plus_ratio": 4.0},
        {"dora": True, "rank_pattern": {"q_proj": 2}, "train_on": "all"},
        {"method": "lora", "modules_to_save": ["lm_head"], "neftune_alpha": 5.0},
        {"method": "lora", "rank": "auto", "rank_budget": 3, "rslora": True},
        {"best_by": "exact_match", "best_rows": 3, "patience": 1, "train_on": "last"},
    ],
    ids=["pissa, LoRA+", "DoRA", "head", "auto", "exact match"],
)
def test_settings_of_the_adapter_and_the_loss_reach_what_is_merged(
    settings: dict[str, Any], tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    settings = {"rank": 4, "packing": False, **KNOBS, **settings}
    tuned = run("tune", tiny_model, device_rows, tmp_path / "t", {}, **settings)
    general = tuned.facts["general"]
    assert general["texts"] == 32 and general["perplexity_after"] != general["perplexity_before"]
    config = json.loads((tuned.path / "adapter" / "adapter_config.json").read_text())
    if settings["rank"] == "auto":
        ranks = {name: rank for name, rank in tuned.facts["ranks"].items() if rank}
        assert len(set(ranks.values())) > 1 and set(config["target_modules"]) == set(ranks)
        assert all(config["rank_pattern"].get(name, 3) == rank for name, rank in ranks.items())
    else:
        assert "ranks" not in tuned.facts
    if settings.get("best_by"):
        curve = (tuned.path / "metrics.jsonl").read_text().splitlines()
        assert any("eval_exact_match" in json.loads(line) for line in curve)
    merged = run("merge", tiny_model, device_rows, tmp_path / "m", {"tune": tuned}, dtype="float32")
    kl = [one["kl_answer_tokens"] for one in merged.facts["candidates"]]
    assert min(kl) < 1e-6


def test_rows_longer_than_the_model_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    long = "light kitchen " * 400
    rows.write_text("".join(f'{{"prompt": "{long}{n}", "completion": "yes"}}\n' for n in range(30)))
    # A length that is asked for is refused before any work, the default one where rows reach it.
    for length, fault in (({"max_length": 4096}, "context of 512"), ({}, "512 positions")):
        tree = {
            "model": {"path": str(tiny_model)}, "data": {"train": str(rows), **length}, "tune": {},
        }  # fmt: skip
        with pytest.raises(InputError, match=fault):
            run_alone("tune", check_tree(tree, "test"), {}, tmp_path / "t", QUIET)


@pytest.mark.parametrize("confidential", [False, True])
def test_confidential_rows_are_in_no_contract(
    tiny_model: Path, device_rows: Path, tmp_path: Path, confidential: bool
) -> None:
    out = tmp_path / "t"
    tree = {
        "model": {"path": str(tiny_model)},
        "data": {
            "train": {"path": str(device_rows), "confidential": confidential},
            "max_length": 48,
        },
        "tune": {"rank": 4, "packing": False, **KNOBS},
    }
    tuned = run_alone("tune", check_tree(tree, "test"), {}, out, QUIET)
    run_alone("merge", check_tree({**tree, "merge": {}}, "test"), {"tune": tuned}, out / "m", QUIET)
    words = [json.loads(line)["prompt"] for line in device_rows.read_text().splitlines()]
    for file in (out / "contract", out / "m" / "model"):
        contract = json.loads((file / "contract.json").read_text(encoding="utf-8"))
        quoted = [turn["content"] for one in contract["golden"] for turn in one["messages"]]
        assert bool(set(quoted) & set(words)) != confidential and quoted
