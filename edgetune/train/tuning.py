"""Tune a base model on prepared rows: tokens, adapters or whole weights, the prompt contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetune.data.build_encoder import make_encoder
from edgetune.data.chat_format import template_end_token
from edgetune.data.contract import freeze_clock, tell_clock, write_contract
from edgetune.data.dataset.splits import Splits
from edgetune.data.dataset.tables import RowTable, lengths_of
from edgetune.data.encoded import Encoded
from edgetune.errors import InputError
from edgetune.facts import TuneFacts
from edgetune.log import Log, bytes_text
from edgetune.models.adapters import add_adapter, restore_adapter, save_adapter
from edgetune.models.checkpoint import Checkpoint
from edgetune.models.compute_dtype import ComputeDtype, keep_dtype
from edgetune.models.end_token import choose_end_token
from edgetune.models.generation import restore_generation_config
from edgetune.models.hardware import choose_device, require_room
from edgetune.models.lineage import stamp_adapter
from edgetune.models.load import load_base
from edgetune.models.ref import ModelRef
from edgetune.models.resolve import resolve_model
from edgetune.models.tokenizer_files import load_tokenizer, save_tokenizer
from edgetune.models.training_base import KEY as TRAINED_OVER
from edgetune.models.training_base import TrainingBase
from edgetune.recipe import Sections, TuneSection
from edgetune.train.inputs import TrainingData, TrainingRun
from edgetune.train.sft import tune


@dataclass(frozen=True)
class Base:
    """The base model's folder and tokenizer, and the device and dtype it is computed with."""

    folder: Path
    tokenizer: Any
    device: str
    computed: ComputeDtype

    @property
    def dtype(self) -> str:
        return self.computed.name


@dataclass(frozen=True)
class Control:
    """A tuning to compare with: on other train rows, for as many steps."""

    train: RowTable
    steps: int


def find_base(sections: Sections, out: Path, log: Log) -> Base:
    """Resolve the recipe's model; refuse a disk without room for its checkpoints."""
    base = resolve_model(sections.model.path, sections.model.revision)
    device = choose_device(sections.model.device)
    dtype = keep_dtype(sections.model.compute_dtype, device, out)
    checkpoint = Checkpoint(base)
    checkpoint.say_beside(log)
    size = checkpoint.bytes
    whole = sections.tune.method == "full"
    require_room(out, 8 * size if whole else size // 2, "tuning with its checkpoints")
    return Base(base, load_tokenizer(base), device, dtype)


def tune_base(
    sections: Sections, base: Base, rows: Splits, out: Path, log: Log,
    control: Control | None = None,
) -> TuneFacts:  # fmt: skip
    """Tune the base on prepared rows.

    Writes ``adapter/`` (PEFT) or, with ``method: full``, ``model/``; ``contract/`` (tokenizer,
    template, golden prompts); ``metrics.jsonl``. A ``control`` has other train rows and steps.
    """
    section, data, role = sections.tune, sections.data, "teacher"
    if control is not None:
        section, role = section.model_copy(update={"max_steps": control.steps}), "control"
    clock = rows.clock or freeze_clock(out)
    dtype = "float32" if section.method == "full" else base.dtype
    model: Any = load_base(base.folder, section.method == "qlora", dtype, base.device)

    # 1. The token that will end answers, which a frozen head must be able to say.
    end_token = _choose_end_token(model, base.tokenizer, sections, log)

    # 2. Rows to tokens, with the loss on answers only.
    encoder = make_encoder(base.tokenizer, data, end_token, clock)
    printed = tell_clock(encoder, log)
    chosen = None if control is None else control.train
    prepared = rows.encode("train", encoder, log, data.on_bad_row, chosen)
    validation = rows.encode("validation", encoder, log, data.on_bad_row).encoded
    if rows.test is not rows.validation:  # what bench cannot ask is no news for after the tuning
        rows.usable("test", encoder, log.muted(), data.on_bad_row)
    _check_context(model, prepared.encoded)

    # 3. Adapters on all linear layers; dtype, method and size are told before the work.
    model, trainable = _make_trainable(model, base, sections, log)

    # 4. Train, going on from a checkpoint that an interrupted run left.
    (out / "metrics.jsonl").unlink(missing_ok=True)
    outcome = tune(
        model, base.tokenizer, TrainingData(prepared.encoded, validation), section,
        data.max_length, TrainingRun(role, sections.seed, out, log),
    )  # fmt: skip

    # 5. The best weights if validation was watched, else the last.
    ref = _save(model, base, section, outcome.best, out, log)

    # 6. The contract that every later file must keep: template, golden prompts, end token.
    write_contract(encoder, rows.quotable, out / "contract")
    return TuneFacts(
        model=ref.to_json(out),
        base=sections.model.path,
        method=section.method,
        device=base.device,
        compute_dtype=base.dtype,
        trainable_parameters=trainable,
        steps=outcome.steps,
        train_loss=outcome.train_loss,
        validation_loss=outcome.validation_loss,
        resumed_from=outcome.resumed_from,
        end_token=base.tokenizer.convert_ids_to_tokens(encoder.end_id),
        template_clock=printed,
        tokens=prepared.facts,
        data=rows.facts,
    )


def _make_trainable(model: Any, base: Base, sections: Sections, log: Log) -> tuple[Any, int]:
    """Return the model with its adapters, and the number of its trainable parameters."""
    section = sections.tune
    if section.method != "full":
        model = add_adapter(model, section, sections.seed)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    base_dtype = {"qlora": "NF4", "lora": base.dtype, "full": "float32"}[section.method]
    log.say(
        f"{section.method} on {base.device}: base {bytes_text(Checkpoint(base.folder).bytes)} "
        f"as {base_dtype}, compute in {base.dtype} "
        f"({base.computed.reason}), {trainable:,} trainable parameters"
    )
    return model, trainable


def _choose_end_token(model: Any, tokenizer: Any, sections: Sections, log: Log) -> str | None:
    """Return the end token of answers: the recipe's, or one that a frozen head can predict."""
    if sections.tune.method == "full":
        return sections.tune.end_token
    usual = None if sections.data.template == "plain" else template_end_token(tokenizer)
    usual = usual or tokenizer.eos_token
    return choose_end_token(model, tokenizer, sections.tune.end_token, usual, log)


def _check_context(model: Any, rows: Sequence[Encoded]) -> None:
    """Refuse rows longer than the model's context.

    Raises:
        InputError: names ``data.max_length`` and what it may be.
    """
    longest = model.config.get_text_config().max_position_embeddings
    if max(lengths_of(rows)) > longest:
        raise InputError(
            f"rows are longer than the {longest} positions of the model",
            where="data.max_length",
            hint=f"set it to at most {longest}",
        )


def _save(
    model: Any, base: Base, section: TuneSection, best: Path | None, out: Path, log: Log
) -> ModelRef:
    """Write the adapter, or the whole model with its tokenizer, and return where the teacher is."""
    if section.method == "full":
        folder = out / "model"
        model = type(model).from_pretrained(best) if best else model
        model.save_pretrained(str(folder))
        restore_generation_config(base.folder, folder, log)
        save_tokenizer(base.tokenizer, folder)
        return ModelRef(folder)
    if best:
        restore_adapter(model, best)
    save_adapter(model, out / "adapter")
    over = TrainingBase(section.method == "qlora", base.dtype, "tune")
    stamp_adapter(out / "adapter", base.folder, {TRAINED_OVER: str(over)})
    return ModelRef(base.folder, out / "adapter", section.method == "qlora", base.dtype)
