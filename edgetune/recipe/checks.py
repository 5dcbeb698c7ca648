"""Which keys of a recipe are read under which settings: one table, and refusals by it.

A key that is set and not read would let a person believe in what never happened. Keys are refused
where they were set and differ from their default, so that a resolved recipe can be run again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from edgetune.errors import InputError
from edgetune.naming import is_hub_id
from edgetune.recipe.adapter import ADAPTER_KEYS
from edgetune.recipe.grading import OPTION_TASKS
from edgetune.recipe.keys import prefixes, set_keys
from edgetune.recipe.quantization import METHOD_SECTIONS
from edgetune.recipe.sampling import SAMPLING
from edgetune.recipe.schema import Recipe
from edgetune.recipe.synthesis_uses import SYNTHESIS_ALWAYS, SYNTHESIS_USES
from edgetune.recipe.use import Use, one_of
from edgetune.train.distillation import DISTILL_METHODS
from edgetune.train.objectives import OBJECTIVES


def _is_cut(recipe: Recipe) -> bool:
    assert recipe.distill is not None
    return recipe.distill.student.path is None and recipe.distill.student.config is None


def _has_gguf(recipe: Recipe) -> bool:
    """Whether a GGUF file is measured; a bench alone is given its files by hand."""
    section = recipe.quantize
    return section is None or bool(section.gguf) or any(
        not budget.strip().startswith("onnx:") for budget in section.budget
    )  # fmt: skip


def _tuning_reads(key: str) -> Use:
    """Return the use of a key of ``tune`` that some objectives read."""
    names = (name for name, row in OBJECTIVES.items() if key in row.reads)
    return one_of("tune", "objective", *names)


def _method_reads(key: str) -> Use:
    """Return the use of a key of ``distill`` that some methods read."""
    return one_of(
        "distill", "method", *(n for n, row in DISTILL_METHODS.items() if key in row.reads)
    )


_ADAPTER = one_of("tune", "method", "qlora", "lora")
_STUDENT_ADAPTER = one_of("distill", "train", "lora", "qlora")
_TRAINED = ("tune", "distill")
_WARMED = ("cosine", "cosine_with_min_lr", "linear", "constant_with_warmup", "inverse_sqrt")
_CUT = Use(_is_cut, "neither distill.student.path nor distill.student.config")
# Keys of data.clean, and the steps of which one at least is to run.
_STEPS = {
    "languages": ("language",),
    "min_characters": ("length",),
    "max_characters": ("length",),
    "max_repetition": ("repetition",),
    "names_model": ("pii",),
    "similarity": ("near_duplicates", "leakage"),
}


def _cleans(steps: tuple[str, ...]) -> Use:
    def holds(recipe: Any) -> bool:
        return any(getattr(recipe.data.clean, step) != "off" for step in steps)

    return Use(holds, " or ".join(f"data.clean.{step}: warn or fix" for step in steps))


_BUDGET = Use(lambda recipe: bool(recipe.quantize.budget), "a quantize.budget")


def _needs_reference(name: str) -> Use:
    def holds(recipe: Any) -> bool:
        return bool(getattr(recipe.tune, name).beta > 0)

    return Use(holds, f"tune.{name}.beta above 0")


_NOT_SAMPLED = ("tune.patience", "tune.eval_rows")
_VALIDATED = Use(
    lambda recipe: recipe.tune.objective not in SAMPLING, "an objective with a validation loss"
)

#: Keys that are read under some settings only; all others are always read.
USES: dict[str, Use] = {
    "model.revision": Use(
        lambda recipe: is_hub_id(recipe.model.path), "a hub id in model.path, not a folder here"
    ),
    "data.columns": one_of("data", "format", "columns", "auto"),
    "data.chunk": one_of("data", "format", "auto", "text"),
    "data.validation_fraction": Use(
        lambda recipe: recipe.data.validation is None, "no data.validation of its own"
    ),
    **{
        f"data.split.{key}": Use(
            lambda recipe: recipe.data.validation is None, "no data.validation of its own"
        )
        for key in ("group_by", "stratify")
    },
    "data.system": Use(lambda recipe: recipe.data.format != "text", "rows that are not plain text"),
    **{f"data.clean.{key}": _cleans(steps) for key, steps in _STEPS.items()},
    **{f"synthesize.{key}": use for key, use in SYNTHESIS_USES.items()},
    **{f"tune.{key}": _ADAPTER for key in ADAPTER_KEYS},
    **{f"distill.{key}": _STUDENT_ADAPTER for key in ADAPTER_KEYS},
    **{f"{section}.rank_budget": one_of(section, "rank", "auto") for section in _TRAINED},
    **{
        f"{section}.{key}": one_of(section, "scheduler", *schedulers)
        for section in _TRAINED
        for key, schedulers in {
            "warmup_ratio": _WARMED,
            "min_lr_ratio": ("cosine_with_min_lr",),
        }.items()
    },
    **dict.fromkeys(_NOT_SAMPLED, _VALIDATED),
    "tune.packing": _tuning_reads("packing"),
    "tune.pack_length": Use(
        lambda recipe: (
            recipe.tune.packing and "pack_length" in OBJECTIVES[recipe.tune.objective].reads
        ),
        f"{_tuning_reads('pack_length').when} with packing: true",
    ),
    **{f"tune.{key}": _tuning_reads(key) for key, row in OBJECTIVES.items() if key in row.reads},
    **{f"tune.{name}.max_kl": _needs_reference(name) for name in SAMPLING},
    "tune.base": one_of("tune", "method", "qlora"),
    "export.adapter": Use(lambda recipe: recipe.base_file is None, "no tune.base"),
    **{f"tune.{key}": _tuning_reads(key) for key in ("train_on", "neftune_alpha", "best_by")},
    "tune.best_rows": one_of("tune", "best_by", "exact_match"),
    "distill.student.config": Use(
        lambda recipe: recipe.distill.student.path is None, "no distill.student.path"
    ),
    "distill.student.layers": _CUT,
    "distill.student.mlp": _CUT,
    "distill.student.heads": _CUT,
    "distill.student.hidden": _CUT,
    **{
        f"distill.{key}": _method_reads(key)
        for key in ("kl_weight", "kl_warmup", "temperature", "targets", "cache", "divergence")
    },
    "distill.samples": Use(
        lambda recipe: recipe.distill.method == "cached" and recipe.distill.targets == "sample",
        "distill.method: cached with targets: sample",
    ),
    "distill.top_k": Use(
        lambda recipe: recipe.distill.method == "cached" and recipe.distill.targets == "top_k",
        "distill.method: cached with targets: top_k",
    ),
    "distill.divergence_mix": Use(
        lambda recipe: (
            "divergence" in DISTILL_METHODS[recipe.distill.method].reads
            and recipe.distill.divergence in ("jsd", "skewed_kl")
        ),
        f"{_method_reads('divergence').when} with divergence: jsd or skewed_kl",
    ),
    "distill.max_new_tokens": Use(
        lambda recipe: (
            "max_new_tokens" in DISTILL_METHODS[recipe.distill.method].reads
            or recipe.distill.prompts is not None
            or recipe.distill.student.path is not None
        ),  # of another tokenizer: it is written to
        f"{_method_reads('max_new_tokens').when}, or distill.prompts",
    ),
    "quantize.search_tokens": _BUDGET,
    "quantize.types": _BUDGET,
    "quantize.calibration_rows": Use(
        lambda recipe: recipe.quantize.imatrix or bool(recipe.quantize.budget),
        "quantize.imatrix: true or a quantize.budget",
    ),
    **{
        f"quantize.{section}": one_of("quantize", "method", name)
        for name, section in METHOD_SECTIONS.items()
    },
    "bench.prompting.choose": Use(
        lambda recipe: any(recipe.bench.prompting.shots), "bench.prompting.shots above 0"
    ),
    **{
        f"bench.task_options.{option}": one_of("bench", "task", "auto", *tasks)
        for option, tasks in OPTION_TASKS.items()
    },
    "bench.label_rows": Use(
        lambda recipe: recipe.bench.label_likelihood, "bench.label_likelihood: true"
    ),
    "bench.kv_cache": Use(_has_gguf, "a GGUF file to measure: quantize.gguf"),
}


def _keys(section: str, names: str) -> frozenset[str]:
    return frozenset(f"{section}.{name}" for name in names.split())


_TRAINING = (
    "learning_rate optimizer scheduler weight_decay max_grad_norm epochs max_steps batch_size "
    "gradient_accumulation eval_every eval_rows save_every patience gradient_checkpointing "
    "report_to"
)
#: Those that are read whatever else is set, so that no key is forgotten: a test walks all.
ALWAYS = frozenset({"name", "seed"}).union(
    _keys("model", "path compute_dtype device"),
    _keys("data", "train validation test format template on_bad_row max_length limit canary"),
    _keys(
        "data",
        "clean.encoding clean.language clean.length clean.repetition clean.pii clean.duplicates "
        "clean.near_duplicates clean.leakage clean.labels clean.max_per_label "
        "clean.max_per_cluster",
    ),
    *(
        _keys(
            f"data.{split}",
            "path weight limit format columns.prompt columns.completion "
            "columns.system config revision split query license origin confidential",
        )
        for split in ("train", "validation", "test")
    ),
    _keys("synthesize", SYNTHESIS_ALWAYS),
    _keys("tune", f"general name objective method end_token {_TRAINING}") - {*_NOT_SAMPLED},
    _keys(
        "distill", f"method train teacher prompts student.path kernels baseline ship {_TRAINING}"
    ),
    _keys("merge", "base dtype measure_rows trained_on max_kl"),
    _keys("quantize", "gguf onnx budget method imatrix"),
    _keys("export", "check_rows"),
    _keys(
        "bench",
        "split models prompt_tokens new_tokens repeats threads task_rows kl_rows max_new_tokens "
        "devices prompting.shots prompting.system prompting.larger task slices label_likelihood "
        "fairness.attributes fairness.rows fairness.lists fairness.template "
        "fairness.classifier",
    ),
    _keys("search", "objectives constraints file pruner"),
    _keys(
        "report",
        "gates gates.measurement gates.models gates.slice gates.reference gates.min gates.max",
    ),
)


# The rows of a step are a section `data`: what reads its keys is the same.
ALWAYS |= {f"tune.{key}" for key in ALWAYS if key.startswith("data.")}
USES |= {f"tune.{key}": use for key, use in USES.items() if key.startswith("data.")}


def check_use(recipe: Recipe, sections: Collection[str] | None = None) -> None:
    """Refuse a key that is set and that nothing reads under the other settings.

    Args:
        recipe: as it was read, so that it knows which keys were set.
        sections: those that are going to be read; all where it is ``None``.

    Raises:
        InputError: names the first such key, and what would read it.
    """
    for key, use in _unread(recipe):
        if sections is None or key.partition(".")[0] in sections:
            raise InputError(
                f"this key is set and nothing would read it: it needs {use.when}",
                where=key,
                hint="leave it out, or set that",
            )


def find_unread(recipe: Recipe) -> list[str]:
    """Return the dotted names of the keys that :func:`check_use` would refuse."""
    return [key for key, _ in _unread(recipe)]


def _unread(recipe: Recipe) -> Iterator[tuple[str, Use]]:
    """Yield the keys that nothing reads: of each step of the tuning by itself, then all others."""
    several = isinstance(recipe.tune, tuple)
    for number, step in enumerate(recipe.steps):
        prefix = f"tune.{number}." if several else "tune."
        for key, use in _unread_alone(recipe.at_step(number)):
            if key.startswith("tune."):
                yield prefix + key.removeprefix("tune."), use
            elif key.startswith("data.") and step.data is not None:
                yield prefix + key, use
    tuned = recipe.tuned
    alone = tuned.model_copy(update={"data": None}) if tuned else None
    rest = recipe.model_copy(update={"tune": alone})
    yield from (one for one in _unread_alone(rest) if not one[0].startswith("tune."))


def _unread_alone(recipe: Recipe) -> Iterator[tuple[str, Use]]:
    """Yield the keys that nothing reads of a recipe with one step of tuning."""
    for key in set_keys(recipe, ""):
        use = next((USES[k] for k in prefixes(key.split(".")) if k in USES), None)
        if use is not None and not use.holds(recipe):
            yield key, use
