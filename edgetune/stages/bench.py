"""bench: every model and file → measurements, in the runtime that will run it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from edgetune.artifact import Artifact
from edgetune.data.build_encoder import make_encoder
from edgetune.data.canary import make_canaries
from edgetune.data.contract import encoder_of
from edgetune.data.dataset.open import open_splits
from edgetune.data.dataset.splits import Splits
from edgetune.data.encode import Encoder
from edgetune.data.encoded import Encoded
from edgetune.data.examples import Examples
from edgetune.data.rows import Row
from edgetune.disk import write_atomic
from edgetune.errors import InputError
from edgetune.evaluate.grading import find_settings, grade_predictions
from edgetune.evaluate.predictions import (
    FOLDER,
    Predictions,
    PredictionWriter,
    Question,
    write_prompt_text,
)
from edgetune.evaluate.tell import tell_scores
from edgetune.facts import (
    BenchFacts,
    ExportedFile,
    ExportFacts,
    from_json,
    to_json,
)
from edgetune.fairness.classified import Answers, add_classified, find_classified, list_texts
from edgetune.fairness.run import find_fairness
from edgetune.fairness.workload import make_counterfactuals
from edgetune.log import Log, counted
from edgetune.measure.classify import classify_texts
from edgetune.measure.devices import choose_devices
from edgetune.measure.labels import MOST, add_labels
from edgetune.measure.prompting import TUNED, measure_prompting, read_prompted
from edgetune.measure.prompts import Asked, Questions
from edgetune.measure.run import find_answers, measure_subjects, read_variants
from edgetune.measure.subject import (
    Subject,
    Workload,
    choose_asked,
    make_subject,
    make_workload,
    name_results,
)
from edgetune.measure.tell import summarize, tell_long_answers, tell_remembered
from edgetune.models.ref import ModelRef
from edgetune.models.resolve import resolve_model
from edgetune.models.shape import read_shape
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.recipe import Sections
from edgetune.runtimes.gguf_header import name_scheme, open_gguf


def run(sections: Sections, inputs: dict[str, Artifact], out: Path, log: Log) -> BenchFacts:
    """Measure base, teacher, baseline, merged student and every file on ``bench.split``'s rows.

    Inputs that are absent are not measured; without a tuned teacher the base is the reference.
    With ``bench.models: shipped`` only what ships is: the files, or what there is in their place.

    Writes:
        ``measurements.json``: ``{"models": [...]}``, entries as in the report; with
        ``bench.prompting`` also ``prompting``.
        ``predictions/``: the questions and every model's answers, which the report grades.
    """
    # 1. The models, from the one that training began with to the files that ship.
    base = resolve_model(sections.model.path, sections.model.revision)
    every = [_find_base(inputs, base), *_find_subjects(inputs)]
    shipped = sections.bench.models == "shipped"
    subjects = name_results([one for one in every if not shipped or one.role == every[-1].role])

    # 2. The rows, as tokens of the contract that training wrote.
    encoder = _find_encoder(inputs, base, sections)
    rows = open_splits(sections, inputs, out, log if not inputs else log.muted())
    usable = rows.usable(sections.bench.split, encoder, log.muted(), sections.data.on_bad_row)
    workload = _make_workload(encoder, usable, rows, sections, log)
    made = make_counterfactuals(encoder, usable, sections.bench.fairness, sections.seed)
    workload = replace(workload, variants=made.variants)
    _announce(len(subjects), workload, sections, log)

    # 3. Each in turn; what an interrupted run measured is kept.
    devices = choose_devices(sections.bench, sections.model.device)
    scratch = out / "scratch"
    models = measure_subjects(subjects, workload, sections.bench, scratch, log, devices)
    prompting, asked = None, list[Asked]()
    if sections.bench.prompting is not None:
        questions = _find_questions(rows, usable, sections)
        asked = _find_asked(every, encoder, base, sections)
        prompting = measure_prompting(asked, questions, sections.bench, scratch, log, devices)
    answers: list[Answers] = []
    if workload.expected:
        writer = _write_questions(out / FOLDER, rows, usable, sections, workload)
        find = partial(find_answers, section=sections.bench, scratch=scratch, devices=devices)
        answers = [_keep_answers(writer, one, find(one), encoder) for one in subjects]
        writer.add_prompted(read_prompted(asked, scratch) if prompting else ())
        _tell_scores(writer.finish(), inputs, sections, log)
    variants = {one.name: read_variants(one, devices, scratch) for one in subjects}
    texts = list_texts(answers, variants, encoder)
    scored = classify_texts(sections.bench, texts, scratch, log, devices.models[0])
    models = add_classified(models, classified := find_classified(scored, answers))
    fairness = find_fairness(subjects, variants, made, encoder, rows, classified)

    # 4. The entries, and a line each for the person who waits.
    for model in models:
        log.say(summarize(model))
    for text in tell_remembered(models):
        log.warn(text)
    for text in fairness.findings if fairness else ():
        log.say(text)
    facts = BenchFacts(models, prompting, fairness)
    text = json.dumps(to_json(facts), indent=1, ensure_ascii=False)
    write_atomic(out / "measurements.json", text)
    return facts


def _announce(models: int, workload: Workload, sections: Sections, log: Log) -> None:
    """Say what will be asked, and warn of what no model can answer."""
    tokens = sum(sum(row.trained) for row in workload.scored)
    log.say(
        f"{counted(models, 'model')}, each in a process of its own: "
        f"{counted(len(workload.prompts), 'question')}, {counted(tokens, 'scored token')}"
    )
    for text in tell_long_answers(workload, sections.bench.max_new_tokens):
        log.warn(text)


def _keep_answers(
    writer: PredictionWriter, subject: Subject, found: dict[str, Any], encoder: Encoder
) -> Answers:
    """Write a model's answers as texts, and return them."""
    texts = list(map(encoder.decode_answer, found["answers"]))
    writer.add(subject.name, subject.role, texts, found["label_log_probs"])
    return Answers(subject.name, subject.role, texts)


def _tell_scores(
    predictions: Predictions, inputs: dict[str, Artifact], sections: Sections, log: Log
) -> None:
    """Say what answers are worth where no report will; slices need one."""
    if "prepare" in inputs:
        return
    settings = replace(find_settings(sections.bench), slices=())
    try:
        for line in tell_scores(grade_predictions(predictions, settings)):
            log.say(line)
    except InputError as error:  # what was measured is not lost for a metric that fails
        log.warn(f"the answers are not graded: {error}")


def _make_workload(
    encoder: Encoder, usable: Sequence[Row], every: Splits, sections: Sections, log: Log
) -> Workload:
    """Return what models are asked, with canaries and the labels whose likelihood is wanted."""
    workload = make_workload(encoder, usable, sections.bench, sections.seed)
    rows = [row for row, _ in choose_asked(usable, sections.bench, sections.seed)]
    workload = add_labels(workload, rows, sections.bench)
    if sections.bench.label_likelihood and not workload.labels:
        log.warn(
            f"bench.label_likelihood: the answers are no labels (2 to {MOST} different ones), so "
            "that none is scored by its likelihood"
        )
    if sections.data.canary is not None:
        canaries = _encode_canaries(encoder, every, sections)
        workload = replace(workload, canaries=canaries)
    return workload


def _write_questions(
    folder: Path, rows: Splits, usable: Sequence[Row], sections: Sections, workload: Workload
) -> PredictionWriter:
    """Write the rows that models were asked, and return what their answers are added to."""
    sample = choose_asked(usable, sections.bench, sections.seed)
    questions = (
        Question(write_prompt_text(row), wanted, leaked, row.where)
        for (row, leaked), wanted in zip(sample, workload.expected, strict=True)
    )
    return PredictionWriter(folder, questions, rows.confidential, list(workload.labels))


def _find_asked(
    subjects: Sequence[Subject], encoder: Encoder, base: Path, sections: Sections
) -> list[Asked]:
    """Return base, larger base and what was tuned (the model that files are made of) in order."""
    prompting = sections.bench.prompting
    assert prompting is not None
    by_role = {subject.role: subject for subject in subjects}
    context = read_shape(base).context
    asked = [Asked("base", by_role["base"], encoder, context)]
    if prompting.larger is not None:
        folder = resolve_model(prompting.larger)
        own = make_encoder(load_tokenizer(folder), sections.data, None)
        subject = make_subject(ModelRef(folder), "larger", "larger")
        asked.append(Asked("larger", subject, own, read_shape(folder).context))
    tuned = by_role.get("merged") or by_role.get("teacher")
    return [*asked, Asked(TUNED, tuned, encoder, context)] if tuned else asked


def _find_questions(rows: Splits, usable: Sequence[Row], sections: Sections) -> Questions:
    """Return the test rows that all models are asked; those that train has too do not count."""
    prompting = sections.bench.prompting
    assert prompting is not None
    sample = choose_asked(usable, sections.bench, sections.seed)
    similar, threshold = prompting.choose == "similar", sections.data.clean.similarity
    examples = Examples(rows.train, similar, threshold, sections.seed)
    return Questions([row for row, _ in sample], examples, [leaked for _, leaked in sample])


def _encode_canaries(encoder: Encoder, rows: Splits, sections: Sections) -> list[list[Encoded]]:
    """Return the canaries of the recipe as tokens, each with its controls."""
    assert sections.data.canary is not None
    plain = rows.facts["format"].split(", ")[0] == "text"
    canaries = make_canaries(sections.data.canary, sections.seed, plain)
    return [[encoder.encode(row) for row in candidates] for candidates in canaries]


def _find_base(inputs: dict[str, Artifact], base: Path) -> Subject:
    """Return what training began with: the recipe's model, or the GGUF file that was tuned over."""
    tuned = inputs.get("tune")
    path = ModelRef.from_json(tuned.facts["model"], tuned.path).gguf if tuned else None
    if path is not None:
        found = make_subject(path, "base", "base")
        return replace(found, scheme=name_scheme(open_gguf(path)))
    return make_subject(ModelRef(base), "base", "base")


def _find_subjects(inputs: dict[str, Artifact]) -> list[Subject]:
    """Return teacher, baseline, merged student and files, as far as there are any."""
    subjects = []
    for stage, fact, role in (("tune", "model", "teacher"), ("distill", "baseline", "baseline")):
        made = inputs.get(stage)
        if made is not None and made.facts.get(fact):
            ref = ModelRef.from_json(made.facts[fact], made.path)
            subjects.append(make_subject(ref, role, role))
    if merge := inputs.get("merge"):
        subjects.append(make_subject(ModelRef(merge.model_folder), "merged", "merged"))
    if export := inputs.get("export"):
        files = from_json(ExportFacts, export.facts).files
        subjects += [_file_subject(file, export.path) for file in files]
    return subjects


def _file_subject(file: ExportedFile, root: Path) -> Subject:
    """Return an exported file as export described it."""
    return Subject(
        name=file.name,
        role="file",
        model=root / file.path,
        format=file.format,
        scheme=file.scheme,
        bytes=file.bytes,
        sha256=file.sha256,
        adapter=root / file.adapter if file.adapter else None,
    )


def _find_encoder(inputs: dict[str, Artifact], base: Path, sections: Sections) -> Encoder:
    """Return the encoder of the nearest contract, or one made of the base's own tokenizer."""
    for stage in ("tune", "distill", "merge"):
        if stage in inputs:
            return encoder_of(inputs[stage].contract_folder, sections.data)
    return make_encoder(load_tokenizer(base), sections.data, None)
