"""distill: teacher → what it leaves behind → student. Usually the teacher is absent by then."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetune.artifact import Artifact
from edgetune.data.contract import encoder_of, write_contract
from edgetune.data.encode import Encoded, Encoder
from edgetune.data.load import load_rows, load_splits
from edgetune.data.prepare import encode_rows
from edgetune.data.rows import Row
from edgetune.distill.answers import as_rows, with_answers, write_answers
from edgetune.distill.cache import Cache, Origin, Settings, cache_key, fill_cache, hash_rows
from edgetune.distill.losses import Answers, Cached, Online, StudentLoss
from edgetune.distill.teacher import OpenTeacher, check_ids, identify, open_teacher
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.models.adapters import add_adapter, restore_adapter, save_adapter
from edgetune.models.hardware import choose_device, choose_dtype
from edgetune.models.lineage import stamp_adapter
from edgetune.models.load import load_base, load_tokenizer
from edgetune.models.ref import ModelRef
from edgetune.models.source import read_json, resolve_data, resolve_model
from edgetune.models.student import (
    choose_layers,
    cut_depth,
    describe_student,
    first_difference,
    make_fresh,
)
from edgetune.models.width import Widths, check_widths, cut_width, measure_importance
from edgetune.ops import choose
from edgetune.recipe import DistillSection, Sections
from edgetune.train.arguments import count_steps
from edgetune.train.distillation import train_student
from edgetune.train.on_policy import check_divergence, train_on_policy

INFLUENCE_ROWS = 16


@dataclass(frozen=True)
class Known:
    """Who teaches: where it lies, and the folder of its tokenizer and template."""

    target: ModelRef | Path
    contract: Path


@dataclass(frozen=True)
class Lessons:
    """What the student is trained on, and by which loss."""

    rows: list[Encoded]
    loss: StudentLoss
    cache: Cache | None
    facts: dict[str, Any]


def run(sections: Sections, inputs: dict[str, Artifact], out: Path, log: Log) -> dict[str, Any]:
    """Distil the teacher into a smaller student, and train the same student without it.

    Writes:
        ``start/`` (the student before training), ``student/`` and ``baseline/`` (weights, or an
        adapter over ``start/``), ``contract/``, ``metrics.jsonl``; beside the artifact, or where
        ``distill.cache`` says, the teacher's cache.
    """
    section, data = sections.distill, sections.data
    if section.method == "on_policy":
        check_divergence(section)

    # 1. The teacher, and the rows as it saw them.
    known = _find_teacher(section, inputs.get("tune"))
    device = choose_device(sections.model.device)
    dtype = choose_dtype(sections.model.compute_dtype, device)
    encoder = encoder_of(known.contract, data)
    rows = load_splits(data, sections.seed, log.muted())
    labelled, asked = rows.train, _load_prompts(sections, log)
    labelled, asked, steps = _seen_rows(section, labelled, asked)
    train = encode_rows(encoder, labelled, log, "train", data.on_bad_row).encoded
    teacher = open_teacher(known.target, dtype, device)
    if isinstance(known.target, Path):
        check_ids(teacher, encoder, labelled, known.target)

    # 2. Where the student starts: another model, or the base without its least missed layers.
    start, facts = _start(sections, teacher, known, train, out, log)
    own, strange = _own_encoder(sections, encoder, start, log)
    method = "sequence" if strange else section.method

    # 3. What the teacher has to say; then it leaves, unless it is wanted online.
    if strange:
        lessons = _written_lessons(section, teacher, encoder, own, [*labelled, *asked], out, log)
        train = encode_rows(own, labelled, log, "train", data.on_bad_row).encoded
    else:
        lessons = _lessons(
            sections, known, teacher, encoder, (labelled, train), asked, start, out, log
        )
    if method not in ("online", "on_policy"):
        teacher.close()
        gc.collect()
    validation = encode_rows(own, rows.validation, log, "validation", data.on_bad_row).encoded

    # 4. The student, and the same student without the teacher: the same steps, its own answers.
    (out / "metrics.jsonl").unlink(missing_ok=True)
    pad = own.tokenizer.pad_token_id
    plain = Answers(choose("sparse_loss", section.kernels, device))
    roles: list[tuple[str, StudentLoss, Cache | None, list[Encoded]]] = [
        ("student", lessons.loss, lessons.cache, lessons.rows)
    ]
    if section.baseline:
        roles.append(("baseline", plain, None, train))
    same = section.model_copy(update={"max_steps": steps})
    refs: dict[str, Any] = {"baseline": None}
    for role, loss, cache, seen in roles:
        model = _trainable(start, section, dtype, device, sections.seed)
        if role == "student" and method == "on_policy":
            prompts = [*labelled, *asked]
            outcome = train_on_policy(
                model, teacher.model, own, prompts, same, sections.seed, out, log
            )
        else:
            outcome = train_student(
                model, loss, cache, seen, validation, pad, same, sections.seed, out, role, log
            )
        refs[role] = _save(model, outcome.best, start, section, out / role).to_json(out)
        facts[f"{role}_validation_loss"] = outcome.validation_loss
        facts["steps"] = outcome.steps

    # 5. The contract goes with the student.
    write_contract(own, rows.test, out / "contract")
    return {**facts, **refs, **lessons.facts, "method": method, "compute_dtype": dtype}


def _find_teacher(section: DistillSection, tuned: Artifact | None) -> Known:
    if section.teacher is None:
        assert tuned is not None, "the pipeline asks for a tune stage"
        target = ModelRef.from_json(tuned.facts["model"], tuned.path)
        return Known(target, tuned.contract_folder)
    if section.teacher.endswith(".gguf"):
        if section.student.path is None:
            raise InputError(
                "a GGUF file cannot be cut into a student",
                where="distill.student.path",
                hint="name the model that is to learn from it",
            )
        if section.method in ("online", "on_policy"):
            raise InputError(
                f"a GGUF file cannot teach {section.method}: that is done in torch",
                where="distill.method",
                hint="use cached or sequence",
            )
        return Known(Path(section.teacher), resolve_model(section.student.path))
    folder = resolve_model(section.teacher)
    return Known(ModelRef(folder), folder)


def _load_prompts(sections: Sections, log: Log) -> list[Row]:
    """Return the rows whose answers the teacher writes."""
    path = sections.distill.prompts
    if path is None:
        return []
    source = resolve_data(path)
    loaded = load_rows(source, sections.data, log.muted(), "prompts", answered=False)
    return [row for row in loaded.rows if row.text is None]


def _seen_rows(
    section: DistillSection, labelled: list[Row], asked: list[Row]
) -> tuple[list[Row], list[Row], int]:
    """Return the rows that a training of less than one pass sees, and its steps.

    Only they need a teacher. They are taken evenly from the whole files: files are often sorted.
    """
    total = len(labelled) + len(asked)
    steps = count_steps(section, total)
    seen = steps * section.batch_size * section.gradient_accumulation
    if seen >= total:
        return labelled, asked, steps
    chosen = [number * total // seen for number in range(seen)]
    cut = len(labelled)
    return (
        [labelled[n] for n in chosen if n < cut] or labelled[:1],
        [asked[n - cut] for n in chosen if n >= cut],
        steps,
    )


def _own_encoder(
    sections: Sections, encoder: Encoder, start: Path, log: Log
) -> tuple[Encoder, bool]:
    """Return the student's encoder, and whether its tokens differ from the teacher's."""
    if sections.distill.student.path is None:
        return encoder, False
    difference = first_difference(encoder.tokenizer, load_tokenizer(start))
    if difference is None:
        return encoder, False
    log.say(
        f"the student's tokenizer is another ({difference}): it learns from what the teacher "
        "writes (method: sequence), because distributions over other tokens say nothing to it"
    )
    return encoder_of(start, sections.data), True


def _written_lessons(
    section: DistillSection, teacher: OpenTeacher, encoder: Encoder, own: Encoder,
    rows: list[Row], out: Path, log: Log,
) -> Lessons:  # fmt: skip
    """The teacher's answers in the words of the student's own tokenizer."""
    answers = write_answers(
        teacher.generate, encoder, rows, section.max_new_tokens, out / "scratch" / "answers", log
    )
    said = encode_rows(own, as_rows(encoder, rows, answers), log, "answers", "skip").encoded
    loss = Answers(choose("sparse_loss", section.kernels, teacher.device))
    return Lessons(said, loss, None, {"answers": len(said)})


def _lessons(
    sections: Sections, known: Known, teacher: OpenTeacher, encoder: Encoder,
    labelled: tuple[list[Row], list[Encoded]], asked: list[Row], start: Path, out: Path, log: Log,
) -> Lessons:  # fmt: skip
    """What a student of the same tokenizer gets: distributions, or answers alone."""
    section = sections.distill
    if section.method == "on_policy":  # it writes its lessons itself
        return Lessons(labelled[1], Answers(choose("sparse_loss", "torch")), None, {})
    sequence = section.method == "sequence"
    prompts = [*labelled[0], *asked] if sequence else asked
    answers = []
    if prompts:
        path = out / "scratch" / "answers"
        answers = write_answers(
            teacher.generate, encoder, prompts, section.max_new_tokens, path, log
        )
    rows = [*([] if sequence else labelled[1]), *with_answers(encoder, prompts, answers)]
    facts: dict[str, Any] = {"answers": len(answers)}
    sparse = choose("sparse_loss", section.kernels, teacher.device)
    log.say(f"losses in {sparse.impl} ({sparse.why})")
    facts["kernels"] = sparse.impl
    if sequence:
        return Lessons(rows, Answers(sparse), None, facts)
    config = read_json(start / "config.json", "")
    vocabulary = min(teacher.scores.vocabulary, int(config.get("vocab_size", 1 << 62)))
    if section.method == "online":
        loss = Online(
            teacher.model, choose("dense_loss", section.kernels, teacher.device), sparse,
            divergence=section.divergence, divergence_mix=section.divergence_mix,
            temperature=section.temperature, weight=section.kl_weight, warmup=section.kl_warmup,
            vocabulary=vocabulary,
        )  # fmt: skip
        return Lessons(rows, loss, None, facts)
    teacher.scores.vocabulary = vocabulary
    cache = _fill(sections, known, teacher, encoder, rows, out, log)
    facts |= {
        "cache_bytes": cache.bytes,
        "cache_bytes_per_position": cache.bytes / max(1, cache.positions),
        "positions": cache.positions,
        "targets": section.targets,
    }
    return Lessons(rows, Cached(cache, sparse, section.kl_weight, section.kl_warmup), cache, facts)


def _fill(
    sections: Sections, known: Known, teacher: OpenTeacher, encoder: Encoder,
    rows: list[Encoded], out: Path, log: Log,
) -> Cache:  # fmt: skip
    """Return the teacher's cache, found or made."""
    section = sections.distill
    count = section.top_k if section.targets == "top_k" else section.samples
    settings = Settings(section.targets, count, section.temperature, sections.seed)
    origin = Origin(
        identify(known.target, teacher.dtype), encoder.tokenizer_hash, encoder.template_hash
    )
    if section.cache is not None:
        folder = Path(section.cache)
    else:
        key = cache_key(origin, hash_rows(rows), settings, teacher.scores.vocabulary)
        folder = out.parent / "teacher-cache" / key
    return fill_cache(teacher.scores, rows, settings, origin, folder, log)


def _start(
    sections: Sections, teacher: OpenTeacher, known: Known, train: list[Encoded], out: Path,
    log: Log,
) -> tuple[Path, dict[str, Any]]:  # fmt: skip
    """Return the folder the student starts from and what is to be said about it."""
    section = sections.distill
    folder, facts = _find_start(sections, teacher, known, train, out, log)
    base = known.target.base if isinstance(known.target, ModelRef) else folder
    size = sum(path.stat().st_size for path in base.glob("*.safetensors"))
    log.say(f"student: {describe_student(folder, size, section.train)}")
    return folder, facts


def _find_start(
    sections: Sections, teacher: OpenTeacher, known: Known, train: list[Encoded], out: Path,
    log: Log,
) -> tuple[Path, dict[str, Any]]:  # fmt: skip
    student, folder = sections.distill.student, out / "start"
    if student.path is not None:
        return resolve_model(student.path), {"student_from": student.path}
    assert isinstance(known.target, ModelRef), "a GGUF teacher comes with student.path"
    base = known.target.base
    if student.config is not None:
        if not (folder / "model.safetensors").exists():
            make_fresh(Path(student.config), base, folder, sections.seed)
        return folder, {"student_from": f"random weights of {student.config}"}
    depth = teacher.model.config.get_text_config().num_hidden_layers
    widths = Widths(student.mlp, student.heads, student.hidden)
    keep = student.layers or (depth if widths else max(1, depth // 2))
    some = train[:: max(1, len(train) // INFLUENCE_ROWS)][:INFLUENCE_ROWS]
    layers, removed = list(range(depth)), []
    if keep < depth or not widths:
        layers, removed = choose_layers(teacher.model, some, keep)
        log.say(
            f"student: layers {', '.join(map(str, layers))} of {depth}; the others were missed "
            f"least (KL {removed[-1][1]:.2f} before training)"
        )
    if not (folder / "config.json").exists():
        shallow = out / "scratch" / "shallow" if widths else folder
        if widths:
            check_widths(read_json(base / "config.json", ""), widths)
        cut_depth(base, layers, shallow)
        if widths:
            cut_width(shallow, layers, measure_importance(teacher.model, some), widths, folder)
    return folder, {
        "student_from": "width cut" if widths else "depth cut",
        "layers": layers,
        "of_layers": depth,
        "removed": [{"layer": layer, "kl_divergence": harm} for layer, harm in removed],
        "widths": {name: value for name, value in vars(widths).items() if value},
    }


def _trainable(start: Path, section: DistillSection, dtype: str, device: str, seed: int) -> Any:
    if section.train == "full":
        return load_base(start, False, "float32", device)
    model = load_base(start, section.train == "qlora", dtype, device)
    return add_adapter(model, section, seed)


def _save(
    model: Any, best: Path | None, start: Path, section: DistillSection, folder: Path
) -> ModelRef:
    if section.train != "full":
        if best:
            restore_adapter(model, best)
        save_adapter(model, folder)
        stamp_adapter(folder, start)
        return ModelRef(start, folder, nf4=section.train == "qlora")
    if best:
        model = type(model).from_pretrained(best)
    model.save_pretrained(str(folder))
    load_tokenizer(start).save_pretrained(str(folder))
    return ModelRef(folder)
