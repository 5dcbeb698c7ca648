"""Initialize a student: pruned from its teacher, of random weights, or another model."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from edgetune.artifact import SCRATCH
from edgetune.data.encoded import Encoded
from edgetune.distill.prune_depth import choose_layers, cut_depth
from edgetune.distill.prune_width import Widths, check_widths, cut_width, measure_importance
from edgetune.distill.teacher import OpenTeacher, TeacherRef
from edgetune.errors import InputError
from edgetune.facts import RemovedLayer, StudentFacts
from edgetune.log import Log, bytes_text
from edgetune.models.checkpoint import SINGLE, Checkpoint, copy_description
from edgetune.models.hardware import require_room
from edgetune.models.merge import write_merged
from edgetune.models.ref import ModelRef
from edgetune.models.resolve import read_json, resolve_model
from edgetune.recipe import Sections

INFLUENCE_ROWS = 16


def initialize_student(
    sections: Sections, teacher: OpenTeacher, known: TeacherRef, train: Sequence[Encoded],
    out: Path, log: Log,
) -> tuple[Path, StudentFacts]:  # fmt: skip
    """Return the folder the student starts from, and where its weights come from."""
    section = sections.distill
    folder, facts = _initialize(sections, teacher, known, train, out, log)
    base = known.target.base if isinstance(known.target, ModelRef) else folder
    log.say(f"student: {describe_student(folder, base, section.train)}")
    return folder, facts


def _initialize(
    sections: Sections, teacher: OpenTeacher, known: TeacherRef, train: Sequence[Encoded],
    out: Path, log: Log,
) -> tuple[Path, StudentFacts]:  # fmt: skip
    student, folder = sections.distill.student, out / "start"
    if student.path is not None:
        return resolve_model(student.path), StudentFacts(student_from=student.path)
    assert isinstance(known.target, ModelRef), "a GGUF teacher comes with student.path"
    base = known.target.base
    if student.config is not None:
        if not (folder / SINGLE).exists():
            make_random_student(Path(student.config), base, folder, sections.seed)
        return folder, StudentFacts(student_from=f"random weights of {student.config}")
    depth = teacher.model.config.get_text_config().num_hidden_layers
    widths = Widths(student.mlp, student.heads, student.hidden)
    keep = student.layers or (depth if widths else max(1, depth // 2))
    some = train[:: max(1, len(train) // INFLUENCE_ROWS)][:INFLUENCE_ROWS]
    layers = list(range(depth))
    removed: list[tuple[int, float]] = []
    if keep < depth or not widths:
        layers, removed = choose_layers(teacher.model, some, keep)
        log.say(
            f"student: layers {', '.join(map(str, layers))} of {depth}; removed the least "
            f"important (KL {removed[-1][1]:.2f} before training)"
        )
    cut_from = "the tuned teacher, its adapter folded in" if known.target.adapter else "its model"
    if not (folder / "config.json").exists():
        base = _merge_teacher(known.target, out / SCRATCH / "tuned", log)
        shallow = out / "scratch" / "shallow" if widths else folder
        if widths:
            check_widths(read_json(base / "config.json", ""), widths)
        cut_depth(base, layers, shallow)
        if widths:
            cut_width(shallow, layers, measure_importance(teacher.model, some), widths, folder)
        if base != known.target.base:
            shutil.rmtree(base)
    return folder, StudentFacts(
        cut_from=cut_from,
        student_from="width cut" if widths else "depth cut",
        layers=layers,
        of_layers=depth,
        removed=[RemovedLayer(layer, kl) for layer, kl in removed],
        widths={name: value for name, value in vars(widths).items() if value},
    )


def _merge_teacher(teacher: ModelRef, folder: Path, log: Log) -> Path:
    """Return a folder of the teacher's weights: an adapter is merged into what it was trained on.

    What a layer's absence costs is measured on the teacher, and the student begins as what was
    measured: in the dtype of the base, 4-bit weights as they were computed with.
    """
    if teacher.adapter is None:
        return teacher.base
    checkpoint = Checkpoint(teacher.base)
    require_room(folder.parent, 2 * checkpoint.bytes, "the student's start")
    shutil.rmtree(folder, ignore_errors=True)
    kinds = {header.dtype for header in checkpoint.headers.values()}
    dtype = "float32" if "F32" in kinds else "float16" if kinds == {"F16"} else "bfloat16"
    write_merged(
        teacher.base, [teacher.adapter], folder, dtype, teacher.nf4_dtype if teacher.nf4 else None
    )
    over = "the NF4 weights it was trained on" if teacher.nf4 else "its base"
    log.say(f"student: cut from the tuned teacher, whose adapter is folded into {over}")
    return folder


def make_random_student(config: Path, teacher: Path, out: Path, seed: int) -> None:
    """Write a model of random weights with the teacher's tokenizer.

    Args:
        config: a ``config.json``; its vocabulary becomes the teacher's.
        teacher: model folder.
        out: new folder.
        seed: of the weights.
    """
    import transformers

    try:
        kind = transformers.AutoConfig.from_pretrained(config, trust_remote_code=False)
    except (ValueError, OSError, KeyError) as error:
        raise InputError(
            f"not a model's configuration: {error}", where=f"distill.student.config: {config}"
        ) from error
    kind.vocab_size = read_json(teacher / "config.json", "")["vocab_size"]
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(kind, trust_remote_code=False)
    out.mkdir(parents=True, exist_ok=True)
    copy_description(teacher, out)
    model.float().save_pretrained(str(out))


def describe_student(folder: Path, teacher: Path, train: str) -> str:
    """Return a sentence on a student's size, the memory of its training, and its speed.

    Decoding reads every weight once per token, so speed follows from their number.
    """
    count, whole = Checkpoint(folder).count, Checkpoint(teacher).count
    # Weights, gradients and two moments in float32; an adapter's are small beside the weights.
    memory = 16 * count if train == "full" else (4 * count if train == "lora" else count * 5 // 8)
    return (
        f"{count / 1e6:.3g} M parameters, {bytes_text(2 * count)} in 16 bits, about "
        f"{bytes_text(count * 4.9 / 8)} in 4; decodes about {whole / count:.1f} times as "
        f"fast as the teacher; training takes {bytes_text(memory)} and activations"
    )
