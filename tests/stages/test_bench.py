"""The bench over a base, a merged model and its files, each measured in its own process."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetune.artifact import Artifact, hash_file, hash_source
from edgetune.data.build_encoder import make_encoder
from edgetune.data.contract import write_contract
from edgetune.data.dataset.make import load_splits
from edgetune.errors import EdgetuneError, InputError
from edgetune.evaluate.grading import Settings, grade_predictions
from edgetune.evaluate.predictions import read_predictions
from edgetune.facts import MeasuredModel, Measurement, to_json
from edgetune.fairness.lists import read_lists
from edgetune.log import Log
from edgetune.measure import devices, workers
from edgetune.measure import run as measure_run
from edgetune.measure.subject import make_subject, make_workload
from edgetune.measure.tell import tell_remembered
from edgetune.models.ref import ModelRef
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.recipe import BenchSection, DataSection, Recipe, Sections
from edgetune.report.tables import describe
from edgetune.source_hashes import find_sources, sources_of
from edgetune.stages.bench import run
from tests.conftest import make_model
from tests.model_files import make_gguf, make_onnx
from tests.tiny_classifiers import make_classifier

BENCH = {
    "task_rows": 6, "kl_rows": 5, "max_new_tokens": 4, "prompt_tokens": 24, "new_tokens": 4,
    "repeats": 2, "threads": 1,
}  # fmt: skip


def make_sections(model: Path, rows: Path) -> Sections:
    recipe = Recipe.model_validate(
        {"model": {"path": str(model)}, "data": {"train": str(rows)}, "bench": BENCH}
    )
    return Sections(recipe, ("model", "data", "bench"))


def make_inputs(model: Path, folder: Path, sections: Sections) -> dict[str, Artifact]:
    """What merge and export leave behind, with the tiny model as the merged one."""
    merged = folder / "merge" / "model"
    shutil.copytree(model, merged)
    encoder = make_encoder(load_tokenizer(merged), sections.data, None)
    write_contract(encoder, load_splits(sections.data, 0, Log(quiet=True)).test, merged)
    export = folder / "export"
    export.mkdir()
    gguf = Path(shutil.copy(make_gguf(model), export / "tiny-F32.gguf"))
    onnx = Path(shutil.copytree(make_onnx(model), export / "tiny-fp32"))
    files = [
        {"name": gguf.name, "format": "gguf", "scheme": "F32", "path": gguf.name,
         "bytes": gguf.stat().st_size, "sha256": hash_file(gguf)},
        {"name": "tiny-fp32", "format": "onnx", "scheme": "fp32", "path": "tiny-fp32",
         "bytes": 5, "sha256": hash_source(onnx)},
    ]  # fmt: skip
    return {
        "merge": Artifact(merged.parent, "model", "merge", "m"),
        "export": Artifact(export, "files", "export", "e", facts={"files": files}),
    }


def read_directly(classifier: Path, texts: list[str]) -> Any:
    """What transformers says of each text, 0 for an empty one."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(classifier)
    model = AutoModelForSequenceClassification.from_pretrained(classifier).eval()
    found = []
    for text in texts:
        given = tokenizer(text.strip(), return_tensors="pt", truncation=True, max_length=16)
        with torch.inference_mode():
            probability = float(model(**given).logits[0].softmax(-1)[1])
        found.append(probability if text.strip() else 0.0)
    return pytest.approx(found, abs=1e-6)


def by_name(model: dict[str, Any]) -> dict[str, float]:
    return {m["name"]: m["value"] for m in model["measurements"]}


def test_bench(
    tiny_model: Path, device_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections = make_sections(tiny_model, device_rows)
    inputs = make_inputs(tiny_model, tmp_path, sections)
    out = tmp_path / "bench.part"
    out.mkdir()
    facts = to_json(run(sections, inputs, out, Log(quiet=True)))
    models = {model["name"]: model for model in facts["models"]}
    assert list(models) == ["base", "merged", "tiny-F32.gguf", "tiny-fp32"]
    assert [m["role"] for m in models.values()] == ["base", "merged", "file", "file"]
    assert json.loads((out / "measurements.json").read_text()) == facts
    runtimes = {m["measurements"][0]["where"]["runtime"] for m in models.values()}
    assert runtimes == {"torch", "llama.cpp", "onnxruntime"}

    base = by_name(models["base"])
    assert "kl_answer_tokens" not in base  # without a teacher it is the reference
    for name in ("tiny-F32.gguf", "tiny-fp32"):
        values = by_name(models[name])
        assert values["kl_answer_tokens"] < 1e-8
        assert values["kl_answer_tokens_to_merged"] < 1e-8
        assert values["top1_answer_tokens_to_merged"] == values["top1_answer_tokens"] == 1
        assert values["perplexity"] == pytest.approx(base["perplexity"], rel=1e-4)
        assert values["bits_per_byte"] == pytest.approx(base["bits_per_byte"], rel=1e-4)
        assert values["exact_match"] == base["exact_match"] == 0  # random weights know nothing
    assert "kl_answer_tokens_to_merged" not in by_name(models["merged"])
    assert models["tiny-fp32"]["bytes"] == 5  # as export said

    predictions = read_predictions(out / "predictions")
    assert predictions is not None and not predictions.confidential
    assert [(one.name, one.role) for one in predictions.models] == [
        (name, model["role"]) for name, model in models.items()
    ]
    assert all(one.prompt and one.where for one in predictions.questions())
    given = [predictions.answers(one) for one in predictions.models]
    assert [len(one) for one in given] == [2] * 4 and given[0] == given[1] and any(given[0])

    # A second call finds every result in scratch and starts no process.
    monkeypatch.setattr(measure_run, "run_worker", None)
    assert to_json(run(sections, inputs, out, Log(quiet=True))) == facts


def test_only_what_ships_is_measured_where_asked_and_on_which_rows(
    tiny_model: Path, device_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BENCH, "models", "shipped")
    monkeypatch.setitem(BENCH, "split", "validation")
    monkeypatch.setitem(BENCH, "label_likelihood", True)
    monkeypatch.setitem(BENCH, "label_rows", 4)
    recipe = Recipe.model_validate(
        {"model": {"path": str(tiny_model)}, "bench": BENCH,
         "data": {"train": str(device_rows), "validation_fraction": 0.2, "test": str(device_rows)}}
    )  # fmt: skip
    sections = Sections(recipe, ("model", "data", "bench"))
    inputs = make_inputs(tiny_model, tmp_path, sections)
    del inputs["export"]
    (tmp_path / "bench.part").mkdir()
    (model,) = run(sections, inputs, tmp_path / "bench.part", Log(quiet=True)).models
    assert model.role == "merged"
    rows = {one.name: one.rows for one in model.measurements if one.rows is not None}
    assert len(rows["exact_match"]) == 6 and set(rows["exact_match"]) <= {0.0, 1.0}
    losses = {one.name: one.value for one in model.measurements}
    assert np.exp(np.mean(rows["perplexity"])) == pytest.approx(losses["perplexity"], rel=0.05)
    asked = json.loads((tmp_path / "bench.part" / "scratch" / "workload.json").read_text())
    assert len(asked["prompts"]) == 6 < 36

    predictions = read_predictions(tmp_path / "bench.part" / "predictions")
    assert predictions is not None
    expected = [one.expected for one in predictions.questions()]
    assert predictions.labels == sorted(set(expected))
    found = predictions.label_log_probs(predictions.models[0])
    assert found[4:] == [None, None]
    for row in found[:4]:
        assert row is not None and len(row) == len(predictions.labels)
        assert all(value < 0 for value in row) and len(set(row)) == len(row)
    graded = grade_predictions(predictions, Settings("classification"))
    scores = {one["name"]: one for one in graded["models"][0]["scores"]}
    assert scores["likelihood_accuracy"]["n"] == scores["calibration_error"]["n"] == 4


def test_a_model_too_large_for_float32_is_measured_in_its_own_dtype(
    tiny_model: Path, device_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report says so; files have types of their own."""
    monkeypatch.setattr(devices, "FILLED", 0.0)
    sections = make_sections(tiny_model, device_rows)
    inputs = make_inputs(tiny_model, tmp_path, sections)
    (tmp_path / "bench.part").mkdir()
    facts = to_json(run(sections, inputs, tmp_path / "bench.part", Log(quiet=True)))
    models = {model["name"]: model for model in facts["models"]}
    for name, dtype in {"base": "bfloat16", "merged": "bfloat16", "tiny-F32.gguf": None}.items():
        where = [
            m["where"].get("dtype") for m in models[name]["measurements"] if "runtime" in m["where"]
        ]
        assert set(where[1:]) == {dtype}
    assert describe(models["merged"], "cpu").endswith("torch, cpu in bfloat16")
    assert describe(models["tiny-F32.gguf"], "cpu").endswith("llama.cpp, cpu")
    assert 1e-8 < by_name(models["tiny-F32.gguf"])["kl_answer_tokens"] < 0.1, "two dtypes"


def test_exact_match_is_the_share_of_expected_answers(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    """Expect what the model says, for half of the questions."""
    sections = make_sections(tiny_model, device_rows)
    encoder = make_encoder(load_tokenizer(tiny_model), sections.data, None)
    rows = load_splits(sections.data, 0, Log(quiet=True)).train
    workload = make_workload(encoder, rows, sections.bench, seed=0)
    assert len(workload.prompts) == 6 and len(workload.scored) == 5
    assert len(workload.latency_prompt) == 24

    from edgetune.runtimes import open_runtime

    runtime = open_runtime(tiny_model, threads=1)
    said = runtime.generate(workload.prompts, 4, encoder.stop_ids)
    for number in range(0, 6, 2):
        workload.expected[number] = encoder.decode_answer(said[number])
    subject = make_subject(ModelRef(tiny_model), "teacher", "teacher")
    assert subject.scheme == "F32"
    quiet = Log(quiet=True)
    (entry,) = measure_run.measure_subjects([subject], workload, sections.bench, tmp_path, quiet)
    match = entry.measurements[0]
    assert (match.name, match.value, match.n) == ("exact_match", 0.5, 6)


def test_leaked_questions_are_scored_apart(tiny_model: Path, tmp_path: Path) -> None:
    """Of 30 test rows 2 (7 %) are train rows with other spelling; only they are answered right."""
    letters = random.Random(0)
    ask = [
        {"prompt": f"{n} " + "".join(letters.choices("abcdefgh", k=30)), "completion": "x"}
        for n in range(60)
    ]
    files = {"train": ask[30:59], "validation": ask[59:], "test": ask[:28]}
    files["test"] += [{**row, "prompt": row["prompt"].upper() + "  "} for row in ask[40:42]]
    for name, some in files.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    section = DataSection(**{name: str(tmp_path / f"{name}.jsonl") for name in files})
    test = load_splits(section, 0, Log(quiet=True)).test
    assert test.leaked.tolist() == [False] * 28 + [True] * 2
    encoder = make_encoder(load_tokenizer(tiny_model), section, None)
    settings = BenchSection.model_validate({**BENCH, "task_rows": 30})
    workload = make_workload(encoder, test, settings, seed=0)

    from edgetune.runtimes import open_runtime

    said = open_runtime(tiny_model, threads=1).generate(workload.prompts, 4, encoder.stop_ids)
    for number in (28, 29):
        workload.expected[number] = encoder.decode_answer(said[number])
    subject = make_subject(ModelRef(tiny_model), "teacher", "teacher")
    quiet = Log(quiet=True)
    (entry,) = measure_run.measure_subjects([subject], workload, settings, tmp_path / "b", quiet)
    scores = {one.name: (one.value, one.n) for one in entry.measurements}
    assert scores["exact_match"] == (pytest.approx(2 / 30), 30)
    assert scores["exact_match_without_leaks"] == (0.0, 28)


def test_text_rows_are_scored_and_not_asked(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "text.jsonl"
    file.write_text("".join(f'{{"text": "the light number {n} is on"}}\n' for n in range(40)))
    sections = make_sections(tiny_model, file)
    encoder = make_encoder(load_tokenizer(tiny_model), sections.data, None)
    rows = load_splits(sections.data, 0, Log(quiet=True)).train
    workload = make_workload(encoder, rows, sections.bench, seed=0)
    assert workload.prompts == [] and len(workload.scored) == 5
    subject = make_subject(make_gguf(tiny_model), "file")
    quiet = Log(quiet=True)
    (entry,) = measure_run.measure_subjects(
        [subject], workload, sections.bench, tmp_path / "s", quiet
    )
    assert "exact_match" not in by_name(to_json(entry)) and "perplexity" in by_name(to_json(entry))


def test_a_model_that_cannot_run_is_named(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    sections = make_sections(tiny_model, device_rows)
    encoder = make_encoder(load_tokenizer(tiny_model), sections.data, None)
    rows = load_splits(sections.data, 0, Log(quiet=True)).train
    workload = make_workload(encoder, rows, sections.bench, seed=0)
    broken = tmp_path / "broken-Q4_0.gguf"
    broken.write_bytes(make_gguf(tiny_model).read_bytes()[:5000])
    subject = make_subject(broken, "file")
    assert subject.scheme == "Q4_0"
    with pytest.raises(InputError, match=r"broken-Q4_0.gguf.*cannot be measured.*broken GGUF"):
        measure_run.measure_subjects(
            [subject], workload, sections.bench, tmp_path / "s", Log(quiet=True)
        )
    with pytest.raises(InputError, match="two models are called"):
        measure_run.measure_subjects(
            [subject, subject], workload, sections.bench, tmp_path / "s", Log(quiet=True)
        )


def test_a_worker_that_dies_is_quoted(tiny_model: Path, device_rows: Path, tmp_path: Path) -> None:
    sections = make_sections(tiny_model, device_rows)
    encoder = make_encoder(load_tokenizer(tiny_model), sections.data, None)
    rows = load_splits(sections.data, 0, Log(quiet=True)).train
    workload = make_workload(encoder, rows, sections.bench, seed=0)
    workload.prompts[0] = [10**6]  # no such token: torch raises something of its own
    subject = make_subject(tiny_model, "teacher", "the teacher")
    with pytest.raises(EdgetuneError, match=r"'the teacher' ended with exit code 1") as error:
        measure_run.measure_subjects([subject], workload, sections.bench, tmp_path, Log(quiet=True))
    assert "IndexError" in str(error.value)


def test_files_are_measured_with_other_caches(
    device_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(tmp_path / "model", hidden=128)  # heads of 32, as the blocks are
    sections = make_sections(model, device_rows)
    section = sections.bench.model_copy(update={"kv_cache": ("f16", "q8_0", "q4_0")})
    encoder = make_encoder(load_tokenizer(model), sections.data, None)
    rows = load_splits(sections.data, 0, Log(quiet=True)).train
    workload = make_workload(encoder, rows, section, seed=0)
    file = make_gguf(model)
    subjects = [make_subject(model, "teacher", "teacher"), make_subject(file, "file")]
    quiet = Log(quiet=True)
    teacher, entry = measure_run.measure_subjects(
        subjects, workload, section, tmp_path / "s", quiet
    )
    assert not any("kv_cache" in m.where for m in teacher.measurements)
    marked = [(m.where.get("kv_cache"), m.name) for m in entry.measurements]
    for kv_cache in ("q8_0", "q4_0"):
        assert {name for kv, name in marked if kv == kv_cache} == {
            "exact_match", "kl_answer_tokens", "top1_answer_tokens", "decode_tokens_per_s",
            "peak_rss_bytes",
        }  # fmt: skip
    values = {
        m.where.get("kv_cache"): m.value for m in entry.measurements if m.name == "kl_answer_tokens"
    }
    assert values[None] < 1e-8 < values["q8_0"] < values["q4_0"]

    # Measured once: a second call starts no process. By default nothing is added.
    monkeypatch.setattr(measure_run, "run_worker", None)
    again = measure_run.measure_subjects(subjects, workload, section, tmp_path / "s", quiet)
    assert again == [teacher, entry]
    usual = measure_run.measure_subjects(subjects, workload, sections.bench, tmp_path / "s", quiet)
    assert usual[1].measurements == [m for m in entry.measurements if "kv_cache" not in m.where]


def test_a_cache_that_cannot_be_is_passed_over(tiny_model: Path, tmp_path: Path) -> None:
    section = BenchSection(kv_cache=("q8_0",))
    log = Log(tmp_path / "log.jsonl", quiet=True)
    assert measure_run._find_caches(make_subject(make_gguf(tiny_model), "file"), section, log) == []
    assert "has no q8_0 cache: a head of 16 values" in (tmp_path / "log.jsonl").read_text()


def test_models_that_remember_canaries_are_named() -> None:
    def model(name: str, ci95: list[float]) -> MeasuredModel:
        found = [Measurement("canary_exposure", sum(ci95) / 2, "bits", 10, ci95, {})]
        return MeasuredModel(name, "file", "gguf", "Q8_0", name, "", 1, found)

    (text,) = tell_remembered([model("seen", [2.5, 3.5]), model("unseen", [0.9, 2.5])])
    assert text.startswith("seen remembers") and "3.00 bits (2.50 to 3.50)" in text


def test_bench_asks_the_untouched_base_and_a_larger_one_by_prompts(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    larger = tmp_path / "larger"
    make_model(larger, layers=3, seed=1)
    recipe = Recipe.model_validate(
        {
            "model": {"path": str(tiny_model)}, "data": {"train": str(device_rows)},
            "bench": BENCH | {
                "models": "shipped", "prompting": {"shots": [0, 1], "larger": str(larger)},
            },
        }
    )  # fmt: skip
    sections = Sections(recipe, ("model", "data", "bench"))
    inputs = make_inputs(tiny_model, tmp_path, sections)
    del inputs["export"]
    out = tmp_path / "bench.part"
    out.mkdir()
    found = run(sections, inputs, out, Log(quiet=True)).prompting
    assert found is not None
    assert [one.name for one in found.models] == [
        "base, zero-shot", "base, 1 example", "larger, zero-shot", "larger, 1 example", "tuned",
    ]  # fmt: skip
    assert all(len(one.measurements) == 3 for one in found.models)
    assert found.models[2].bytes > found.models[0].bytes
    predictions = read_predictions(out / "predictions")
    assert predictions is not None
    names = {one.name: one.role for one in predictions.models}
    assert names["larger, 1 example"] == "prompted" and "tuned" not in names
    assert set(names.values()) == {"prompted", "merged"}
    graded = grade_predictions(predictions, Settings("exact"))
    assert [len(one["right"]) for one in graded["models"]] == [graded["rows"]] * len(names)
    kept = json.loads((out / "measurements.json").read_text())["prompting"]
    assert kept["best"] == found.best

    before = sources_of(("bench",), find_sources(recipe))
    (larger / "more.txt").write_text("another model")
    assert sources_of(("bench",), find_sources(recipe)) != before


def test_rows_with_another_person_are_asked_of_every_model_and_file(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers of a random model: lossless files differ from it in nothing."""
    names = read_lists(None).names["english"]
    people = [name for gender in names for name in names[gender]]
    for part, thing in (("train", "light"), ("test", "lamp")):
        lines = [
            {"prompt": f"{name} wants {thing} {n}", "completion": "on" if n % 2 else "off"}
            for n, name in enumerate(people)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / f"{part}.jsonl").write_text(text)
    polite = make_classifier(tmp_path / "polite")
    named = {"rude": {"model": str(polite), "label": "rude"}}
    settings = {"attributes": ["gender", "age"], "rows": 6, "classifier": named}
    monkeypatch.setitem(BENCH, "fairness", settings)
    data = {part: str(tmp_path / f"{part}.jsonl") for part in ("train", "test")}
    recipe = {"model": {"path": str(tiny_model)}, "bench": BENCH, "data": data}
    sections = Sections(Recipe.model_validate(recipe), ("model", "data", "bench"))
    inputs = make_inputs(tiny_model, tmp_path, sections)
    (tmp_path / "bench.part").mkdir()
    facts = run(sections, inputs, tmp_path / "bench.part", Log(quiet=True))
    fairness = facts.fairness
    assert fairness is not None and fairness.rows == {"gender": 6, "age": 0}
    assert [model.name for model in fairness.models] == [model.name for model in facts.models]
    for model in fairness.models:
        (one,) = model.groups
        assert (one.group, one.against, one.n, one.tested) == ("male", "female", 6, 6)
        assert one.kl is not None and one.score is not None and one.label_changes is not None
        assert one.kl.value > 1e-6 and one.score.value != 0, "another name changes something"
        assert (model.changes is not None) == (model.role == "file")
    for model in fairness.models[-2:]:
        (change,) = model.changes or []
        assert model.reference == "merged" and change.score is not None and change.kl is not None
        assert abs(change.score.value) < 1e-4 and abs(change.kl.value) < 1e-4
    by_group = {(one.attribute, one.group): one for one in fairness.balance}
    assert by_group["gender", "female"].labels.keys() == {"on", "off"}
    train = by_group["gender", "female"].rows + by_group["gender", "male"].rows
    assert train == by_group["gender", "female"].of
    assert any("words of age" in line for line in fairness.findings)

    # The classifier read what models answered: to the test rows, and to the versions of them.
    (rude,) = fairness.classifiers or []
    assert (rude.model, rude.label, rude.reference) == ("polite", "rude", "base")
    assert [one.name for one in rude.models] == [model.name for model in facts.models]
    predictions = read_predictions(tmp_path / "bench.part" / "predictions")
    assert predictions is not None
    for answered, seen, model in zip(predictions.models, rude.models, facts.models, strict=True):
        texts = predictions.answers(answered)
        values = [one.rows for one in model.measurements if one.name == seen.probability.metric]
        assert values == [read_directly(polite, texts)] and seen.probability.n == len(texts)
        assert (seen.probability.difference is None) == (model.role == "base")
    for of_model in fairness.models:
        figure = (of_model.groups[0].classified or {})["classifier_rude_probability"]
        assert figure.n == 6 and abs(figure.value) <= 1
    known = json.loads((tmp_path / "bench.part" / "scratch" / "classifier-rude.json").read_text())
    assert len(known["probabilities"]) > len(set(texts)), "swapped rows are read too"

    monkeypatch.setattr(workers.Workers, "run", None)  # nothing changed: no process starts
    assert run(sections, inputs, tmp_path / "bench.part", Log(quiet=True)) == facts
