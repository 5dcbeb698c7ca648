"""distill in every way a student can be taught, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from edgetune.artifact import Artifact
from edgetune.errors import InputError
from edgetune.models.load import load_model
from edgetune.models.ref import ModelRef
from edgetune.recipe import DistillSection
from edgetune.stages.distill import _seen_rows
from tests.conftest import make_model, make_tokenizer, write_device_rows
from tests.model_files import make_gguf
from tests.stages.test_training import KNOBS, logits, run


@pytest.fixture(scope="module")
def tuned(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("tuned")
    rows = write_device_rows(folder / "rows.jsonl")
    return run("tune", tiny_model, rows, folder / "t", {}, packing=True, rank=2, **KNOBS)


@pytest.mark.parametrize("train", ["full", "lora", "qlora"])
def test_students_of_every_training(
    train: str, tuned: Artifact, tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    adapter = {} if train == "full" else {"rank": 2}
    made = run(
        "distill", tiny_model, device_rows, tmp_path / "d", {"tune": tuned},
        train=train, student={"layers": 1}, samples=8, **adapter, **KNOBS,
    )  # fmt: skip
    student = ModelRef.from_json(made.facts["distilled"], made.path)
    baseline = ModelRef.from_json(made.facts["baseline"], made.path)
    assert len(load_model(student).get_decoder().layers) == 1
    assert not torch.equal(logits(student), logits(baseline)), "the teacher changed nothing"
    assert made.facts["cache_bytes_per_position"] < 50
    assert made.facts["kernels"] == "torch"
    merged = run("merge", tiny_model, device_rows, tmp_path / "m", {"distill": made})
    assert merged.facts["from"] == "distill"
    assert min(c["kl_answer_tokens"] for c in merged.facts["candidates"]) < 1e-3


WAYS = {
    "top-k": {"targets": "top_k", "top_k": 4},
    "warm and with a warm-up": {"temperature": 2.0, "kl_warmup": 0.5},
    "online, forward KL": {"method": "online"},
    "online, reverse KL": {"method": "online", "divergence": "reverse_kl", "kl_weight": 1.0},
    "online, JSD": {"method": "online", "divergence": "jsd", "divergence_mix": 0.3},
    "online, skewed KL": {"method": "online", "divergence": "skewed_kl", "temperature": 2.0},
    "sequence": {"method": "sequence", "max_new_tokens": 8},
    "on policy": {"method": "on_policy", "divergence": "reverse_kl", "max_new_tokens": 8},
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_teach(
    way: str, tuned: Artifact, tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    made = run(
        "distill", tiny_model, device_rows, tmp_path / "d", {"tune": tuned},
        student={"layers": 1}, **WAYS[way], **KNOBS,
    )  # fmt: skip
    refs = [ModelRef.from_json(made.facts[role], made.path) for role in ("distilled", "baseline")]
    assert not torch.equal(*map(logits, refs)), "the teacher changed nothing"
    assert made.facts["steps"] == 4


def test_online_and_cached_agree(
    tuned: Artifact, tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    """Nearly: 255 draws per token instead of the whole distribution, over four steps."""
    found = {}
    for name, section in {
        "online": {"method": "online", "baseline": True},
        "cached": {"samples": 255, "baseline": False},
    }.items():
        made = run(
            "distill", tiny_model, device_rows, tmp_path / name, {"tune": tuned},
            student={"layers": 1}, kl_weight=1.0, **section, **KNOBS,
        )  # fmt: skip
        found[name] = logits(ModelRef.from_json(made.facts["distilled"], made.path))
        if made.facts["baseline"]:
            found["baseline"] = logits(ModelRef.from_json(made.facts["baseline"], made.path))
    far = (found["online"] - found["baseline"]).norm()
    assert (found["online"] - found["cached"]).norm() < 0.5 * far


def test_a_cache_is_shared_by_runs_that_differ_in_the_student_alone(
    tuned: Artifact, tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    section = {"student": {"layers": 1}, "samples": 8, "baseline": False, **KNOBS}
    for name, weight in (("a", 0.5), ("b", 1.0)):
        run(
            "distill", tiny_model, device_rows, tmp_path / name, {"tune": tuned},
            kl_weight=weight, **section,
        )  # fmt: skip
    caches = list((tmp_path / "teacher-cache").iterdir())
    assert len(caches) == 1
    with pytest.raises(InputError, match="of another settings"):
        run(
            "distill", tiny_model, device_rows, tmp_path / "c", {"tune": tuned},
            cache=str(caches[0]), **(section | {"samples": 9}),
        )  # fmt: skip


def test_rows_without_answers(
    tuned: Artifact, tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"prompt": f"turn on light {n}", "completion": ""} for n in range(20)]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = run(
        "distill", tiny_model, device_rows, tmp_path / "d", {"tune": tuned},
        student={"layers": 1}, prompts=str(prompts), samples=8, max_new_tokens=6,
        **(KNOBS | {"max_steps": None, "epochs": 1.0}),
    )  # fmt: skip
    assert made.facts["answers"] == 20


def test_teachers_that_were_not_tuned_here(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    section = {"baseline": False, **KNOBS}
    merged = run(
        "distill", tiny_model, device_rows, tmp_path / "a", {},
        teacher=str(tiny_model), student={"layers": 1}, samples=8, **section,
    )  # fmt: skip
    assert merged.facts["student_from"] == "depth cut"
    file = make_gguf(tiny_model)
    same = make_model(tmp_path / "same", layers=1, seed=5)
    from_file = run(
        "distill", tiny_model, device_rows, tmp_path / "b", {},
        teacher=str(file), student={"path": str(same)}, **section,
    )  # fmt: skip
    assert from_file.facts["student_from"] == str(same)
    for method in ("online", "on_policy"):
        with pytest.raises(InputError, match="cannot teach"):
            run(
                "distill", tiny_model, device_rows, tmp_path / "c", {}, teacher=str(file),
                student={"path": str(same)}, method=method, **section,
            )  # fmt: skip
    with pytest.raises(InputError, match="goes with method: online"):
        run(
            "distill", tiny_model, device_rows, tmp_path / "c", {}, teacher=str(tiny_model),
            method="on_policy", divergence="skewed_kl", **section,
        )  # fmt: skip
    with pytest.raises(InputError, match="cannot be cut"):
        run("distill", tiny_model, device_rows, tmp_path / "c", {}, teacher=str(file), **section)


def test_a_student_with_another_tokenizer_learns_what_the_teacher_writes(
    tuned: Artifact, tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    other = make_model(tmp_path / "other")
    make_tokenizer(other, size=300)
    made = run(
        "distill", tiny_model, device_rows, tmp_path / "d", {"tune": tuned},
        student={"path": str(other)}, max_new_tokens=8, **KNOBS,
    )  # fmt: skip
    assert made.facts["method"] == "sequence" and "cache_bytes" not in made.facts
    assert made.facts["answers"] > 0


def test_narrow_and_fresh_students(
    tuned: Artifact, tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    section = {"samples": 8, "baseline": False, **KNOBS}
    narrow = run(
        "distill", tiny_model, device_rows, tmp_path / "a", {"tune": tuned},
        student={"layers": 1, "mlp": 64, "hidden": 32}, **section,
    )  # fmt: skip
    assert narrow.facts["widths"] == {"mlp": 64, "hidden": 32}
    weights = load_model(ModelRef.from_json(narrow.facts["student"], narrow.path))
    assert weights.get_decoder().layers[0].mlp.up_proj.weight.shape == (64, 32)
    fresh = run(
        "distill", tiny_model, device_rows, tmp_path / "b", {"tune": tuned},
        student={"config": str(tiny_model / "config.json")}, **section,
    )  # fmt: skip
    assert "random weights" in fresh.facts["student_from"]


def test_a_smaller_head_is_cut_from_the_teachers_distribution(
    tuned: Artifact, tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    from edgetune.distill.cache import Cache

    padded = make_model(tmp_path / "padded", layers=1, seed=5)
    model = load_model(ModelRef(padded))
    size = model.config.vocab_size
    model.resize_token_embeddings(size + 14)
    model.save_pretrained(padded)
    made = run(
        "distill", tiny_model, device_rows, tmp_path / "d", {"tune": tuned},
        student={"path": str(padded)}, samples=8, baseline=False, **KNOBS,
    )  # fmt: skip
    assert made.facts["steps"] == 4
    (cache,) = (tmp_path / "teacher-cache").iterdir()
    assert Cache(cache).vocabulary == size


def test_less_than_a_pass_asks_the_teacher_only_for_the_rows_it_sees() -> None:
    half = DistillSection(epochs=0.5, batch_size=8)
    labelled, asked, steps = _seen_rows(half, 80, 20)
    assert steps == 7  # half of the 13 batches
    assert len(labelled) + len(asked) == 56
    assert labelled[0] == 0 and asked[-1] == 18  # from the whole files
    whole = DistillSection(epochs=1.0, batch_size=8)
    labelled, asked, steps = _seen_rows(whole, 100, 0)
    assert labelled.tolist() == list(range(100)) and not len(asked) and steps == 13
