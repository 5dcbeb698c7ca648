"""Tune a base model, or what an earlier step made of it, on prepared rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgetune.artifact import Artifact, hash_file
from edgetune.data.build_encoder import make_encoder
from edgetune.data.chat_format import template_end_token
from edgetune.data.contract import freeze_clock, tell_clock, write_contract
from edgetune.data.dataset.splits import Splits
from edgetune.data.dataset.tables import RowTable
from edgetune.data.encode import Encoder
from edgetune.facts import TuneFacts
from edgetune.log import Log, bytes_text
from edgetune.models.adapter_modules import trains_head
from edgetune.models.adapters import add_adapter, continue_adapter, restore_adapter, save_adapter
from edgetune.models.checkpoint import Checkpoint
from edgetune.models.compute_dtype import ComputeDtype, keep_dtype
from edgetune.models.end_token import choose_end_token
from edgetune.models.generation import restore_generation_config
from edgetune.models.hardware import choose_device, require_room
from edgetune.models.lineage import stamp_adapter
from edgetune.models.load import load_weights
from edgetune.models.ref import ModelRef
from edgetune.models.resolve import resolve_model
from edgetune.models.tokenizer_files import load_tokenizer, save_tokenizer
from edgetune.models.training_base import KEY as TRAINED_OVER
from edgetune.models.training_base import TrainingBase
from edgetune.recipe import DataSection, Sections, TuneSection
from edgetune.runtimes.gguf_header import name_scheme, open_gguf
from edgetune.train.answer_tokens import warn_of_untrained
from edgetune.train.base_file import ROWS, check_base_file
from edgetune.train.forgetting import watch_general
from edgetune.train.inputs import TrainingRun
from edgetune.train.objectives import OBJECTIVES
from edgetune.train.rank_budget import choose_ranks
from edgetune.train.tuning_step import Trained, Tuning


@dataclass(frozen=True)
class Base:
    """What a step begins with, and the device and dtype it is computed with.

    Attributes:
        folder: of the model whose weights are trained, or lie under the adapter.
        tokenizer: of the model.
        device: to train on.
        computed: dtype of activations, and why.
        adapter: of the step before, which this one goes on with.
        end_token: of the step before.
        reward_models: folders of earlier steps that gave one, by the step's name.
        nf4: whether the weights are put into 4 bits.
        gguf: file whose weights the model has in place of the folder's.
    """

    folder: Path
    tokenizer: Any
    device: str
    computed: ComputeDtype
    adapter: Path | None = None
    end_token: str | None = None
    nf4: bool = False
    gguf: Path | None = None
    reward_models: Mapping[str, Path] = field(default_factory=dict)

    @property
    def dtype(self) -> str:
        return self.computed.name

    @property
    def start(self) -> ModelRef:
        """The model as the step begins."""
        return ModelRef(self.folder, self.adapter, self.nf4, self.dtype, self.gguf)

    @property
    def trained_over(self) -> TrainingBase:
        """What its weights are, as is written into the adapter."""
        file_hash = hash_file(self.gguf) if self.gguf else None
        return TrainingBase(self.nf4, self.dtype, "tune", file_hash)


@dataclass(frozen=True)
class Control:
    """A tuning to compare with: on other train rows, for as many steps."""

    train: RowTable
    steps: int


def find_base(
    sections: Sections, out: Path, log: Log, inputs: Mapping[str, Artifact] = MappingProxyType({})
) -> Base:
    """Resolve the recipe's model, or what the step before (input ``previous``) made of it.

    Raises:
        InputError: no such model, or a disk without room for its checkpoints.
    """
    base = resolve_model(sections.model.path, sections.model.revision)
    adapter, end_token = None, None
    if (previous := inputs.get("previous")) is not None:
        start = ModelRef.from_json(previous.facts["model"], previous.path)
        base, adapter, end_token = start.base, start.adapter, previous.facts["end_token"]
    device = choose_device(sections.model.device)
    dtype = keep_dtype(sections.model.compute_dtype, device, out)
    checkpoint = Checkpoint(base)
    checkpoint.say_beside(log)
    size = checkpoint.bytes
    whole = sections.tune.method == "full"
    require_room(out, 8 * size if whole else size // 2, "tuning with its checkpoints")
    gguf = sections.tune.base_file
    nf4 = sections.tune.method == "qlora" and gguf is None
    models = {
        name.removeprefix("reward:"): artifact.path
        for name, artifact in inputs.items()
        if name.startswith("reward:")
    }
    return Base(base, load_tokenizer(base), device, dtype, adapter, end_token, nf4, gguf, models)


def tune_base(
    sections: Sections, base: Base, rows: Splits, out: Path, log: Log,
    control: Control | None = None,
) -> TuneFacts:  # fmt: skip
    """Tune the base on prepared rows.

    Writes ``adapter/`` (PEFT) or, with ``method: full``, ``model/``; ``contract/`` (tokenizer,
    template, golden prompts); ``metrics.jsonl``. A ``control`` has other train rows and steps.
    """
    section, data = sections.tune, sections.data
    role = section.name or section.objective
    if control is not None:
        section, role = section.model_copy(update={"max_steps": control.steps}), "control"
    clock = rows.clock or freeze_clock(out)
    dtype = "float32" if section.method == "full" else base.dtype
    model: Any = load_weights(base.start, dtype, base.device)

    # 1. The token that will end answers, which a frozen head must be able to say.
    end_token = _choose_end_token(model, base, sections, log)

    # 2. What makes tokens of rows, with the loss where the objective has it.
    encoder = make_encoder(base.tokenizer, data, end_token, clock)
    printed = tell_clock(encoder, log)
    if rows.test is not rows.validation:  # what bench cannot ask is no news for after the tuning
        rows.usable("test", encoder, log.muted(), data.on_bad_row)

    if base.gguf is not None:
        check_base_file(model, base.gguf, encoder, _some_rows(rows, encoder, data, log), log)

    # 3. Adapters on all linear layers; dtype, method and size are told before the work.
    tuning = Tuning(
        model, base.tokenizer, encoder, rows, section, data,
        TrainingRun(role, sections.seed, out, log, OBJECTIVES[section.objective].logged),
        base.start, None if control is None else control.train, base.reward_models,
    )  # fmt: skip
    untrained = [] if control else warn_of_untrained(tuning)
    ranks = choose_ranks(tuning)
    model, trainable = _make_trainable(model, base, sections, ranks, log)
    general = None if control else watch_general(section, model, encoder, data, log)

    # 4. Train, going on from a checkpoint that an interrupted run left.
    (out / "metrics.jsonl").unlink(missing_ok=True)
    trained = OBJECTIVES[section.objective].train(replace(tuning, model=model))

    # 5. The best weights if validation was watched, else the last.
    ref, model = _save(model, base, section, trained.outcome.best, out, log)

    # 6. The contract that every later file must keep: template, golden prompts, end token.
    write_contract(encoder, rows.quotable, out / "contract")
    facts = _describe(tuning, trained)
    return replace(
        facts,
        model=ref.to_json(out),
        base=sections.model.path,
        trainable_parameters=trainable,
        template_clock=printed,
        ranks=ranks,
        untrained_tokens=untrained or None,
        general=None if general is None else general.compare(model, log),
    )


def _describe(tuning: Tuning, trained: Trained) -> TuneFacts:
    """Return what a step did, but for what it made."""
    section, outcome = tuning.section, trained.outcome
    end_id = tuning.encoder.end_id
    return TuneFacts(
        method=section.method,
        objective=section.objective,
        device=str(tuning.model.device.type),
        compute_dtype=tuning.start.nf4_dtype,
        steps=outcome.steps,
        train_loss=outcome.train_loss,
        validation_loss=outcome.validation_loss,
        resumed_from=outcome.resumed_from,
        end_token=tuning.tokenizer.convert_ids_to_tokens(end_id),
        tokens=dict(trained.tokens),
        data=tuning.rows.facts,
        step=section.name or section.objective,
        trainer=OBJECTIVES[section.objective].trainer,
        figures=dict(trained.figures),
    )


def _make_trainable(
    model: Any, base: Base, sections: Sections, ranks: dict[str, int] | None, log: Log
) -> tuple[Any, int]:
    """Return the model with its adapters, and the number of its trainable parameters."""
    section = sections.tune
    if base.adapter is not None:
        model = continue_adapter(model, base.start, section)
    elif section.method != "full":
        model = add_adapter(model, section, sections.seed, ranks)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    base_dtype = {"qlora": "NF4", "lora": base.dtype, "full": "float32"}[section.method]
    size = Checkpoint(base.folder).bytes
    if base.gguf is not None:
        size, base_dtype = base.gguf.stat().st_size, name_scheme(open_gguf(base.gguf))
    log.say(
        f"{section.method} on {base.device}: base {bytes_text(size)} "
        f"as {base_dtype}, compute in {base.dtype} "
        f"({base.computed.reason}), {trainable:,} trainable parameters"
    )
    return model, trainable


def _some_rows(rows: Splits, encoder: Encoder, data: DataSection, log: Log) -> list[list[int]]:
    """Return the tokens of a few validation rows."""
    some = rows.validation[:ROWS]
    found = rows.encode("validation", encoder, log.muted(), data.on_bad_row, some).encoded
    return [list(row.ids) for row in found]


def _choose_end_token(model: Any, base: Base, sections: Sections, log: Log) -> str | None:
    """Return the end token of answers: the recipe's, or one that a frozen head can predict."""
    wanted, tokenizer = sections.tune.end_token, base.tokenizer
    free = sections.tune.method == "full" or trains_head(model, sections.tune)
    if free or (wanted is None and base.end_token is not None):
        return wanted or base.end_token
    usual = None if sections.data.template == "plain" else template_end_token(tokenizer)
    usual = usual or tokenizer.eos_token
    return choose_end_token(model, tokenizer, wanted, usual, log)


def _save(
    model: Any, base: Base, section: TuneSection, best: Path | None, out: Path, log: Log
) -> tuple[ModelRef, Any]:
    """Write the adapter, or the whole model with its tokenizer.

    Returns:
        Where the teacher is, and the model with the weights that were kept.
    """
    if section.method == "full":
        folder = out / "model"
        model = type(model).from_pretrained(best) if best else model
        model.save_pretrained(str(folder))
        restore_generation_config(base.folder, folder, log)
        save_tokenizer(base.tokenizer, folder)
        return ModelRef(folder), model.to(base.device)
    if best:
        restore_adapter(model, best)
    save_adapter(model, out / "adapter")
    stamp_adapter(out / "adapter", base.folder, {TRAINED_OVER: str(base.trained_over)})
    return replace(base.start, adapter=out / "adapter"), model
