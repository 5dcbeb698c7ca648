"""``edgetune init``: a recipe to start from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import yaml
from click.core import ParameterSource

from edgetune.errors import EdgetuneError, GateFailed, InputError
from edgetune.models.resolve import find_local
from edgetune.naming import clean_name

if TYPE_CHECKING:  # it imports what reads models, which takes seconds
    from edgetune.plan.proposal import Sections
    from edgetune.recipe import Recipe

_RECIPE = """\
# Every key and its default: edgetune run {file} --dry-run
name: {name}
seed: 0
model:
  path: {model}          # a folder, embedded:base, or a hub id
data:
  train: {data}          # JSONL, JSON, CSV, Parquet or text, also .gz; shapes are detected
  # validation: and test: are split off the train rows when absent
  max_length: 1024       # most tokens per row
tune:                    # the result is the teacher
  method: {method}{why}
  rank: 16
  learning_rate: 2.0e-4
  epochs: 1
# distill:               # a smaller student; remove the # to train one
#   student:
#     layers: {layers:<11}# how many of the base's layers it keeps{depth}
merge: {{}}
quantize:
  gguf: [F16, Q8_0, Q4_K_M]
  onnx: [int4]
export: {{}}
bench: {{}}
report:
  gates:
    - {{measurement: kl_answer_tokens_to_merged, models: "*Q8_0*", max: 0.05}}
"""


#: What a recipe of a proposal has besides the proposed sections.
_SECTIONS = ("merge", "quantize", "export", "bench")


@click.command("init")
@click.argument("path", type=click.Path(path_type=Path), default="recipe.yaml")
@click.option("--model", default="embedded:base", show_default=True, help="Base model.")
@click.option("--data", default="embedded:devices/train.jsonl", show_default=True, help="Rows.")
@click.option(
    "--preset",
    type=click.Choice(["fast", "balanced", "best"]),
    default=None,
    help="Effort of the proposal: steps, rank, student and search of types. [default: balanced]",
)
@click.pass_context
def command(context: click.Context, path: Path, model: str, data: str, preset: str | None) -> None:
    """Write a recipe to PATH (recipe.yaml) and say what to do next.

    Where --model and --data lie on this machine, both are read, and every setting is proposed for
    them, with its reason as a comment. Without them it is a recipe to start from.
    """
    if path.exists():
        raise InputError("this file exists and is not overwritten", where=str(path))
    given = {name for name in ("model", "data", "preset")
             if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}  # fmt: skip
    named = {"model", "data"} <= given
    if preset is not None and not named:
        raise InputError(
            "a preset is of a proposal, which reads a model and rows",
            where="--preset",
            hint="name them: --model DIR --data FILE",
        )
    name = clean_name(path.stem, "run")
    if named and find_local(model) is not None and find_local(data) is not None:
        text = _propose_recipe(path, name, model, data, preset or "balanced")
    elif preset is not None:
        raise InputError("a proposal reads the model and the rows, and they are not both here",
                         where=f"--model {model} --data {data}")  # fmt: skip
    else:
        known = {"file": path, "name": name, "model": model, "data": data, **_propose(model)}
        text = _RECIPE.format(**known)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    click.echo(str(path))
    click.echo(f"next: edgetune run {path} --dry-run", err=True)


def _propose_recipe(path: Path, name: str, model: str, data: str, preset: str) -> str:
    """Return a recipe of settings proposed for a model and rows, which passes a dry run.

    Raises:
        InputError: a model or rows that cannot be read.
    """
    from edgetune.models.hardware import choose_device
    from edgetune.models.resolve import resolve_model
    from edgetune.models.shape import read_shape
    from edgetune.models.tokenizer_files import load_tokenizer
    from edgetune.models.untrained_tokens import find_alike_in_folder
    from edgetune.plan.fit import find_changes
    from edgetune.plan.proposal import Value, propose
    from edgetune.plan.row_facts import measure_rows
    from edgetune.preflight import REPORT, check_run
    from edgetune.recipe.load import check_tree

    folder = resolve_model(model)
    tokenizer, shape = load_tokenizer(folder), read_shape(folder)
    rows = measure_rows(data, tokenizer, 0)
    untrained = find_alike_in_folder(folder, shape, rows.often)
    # A special token that cannot end answers is replaced by one that can (`choose_end_token`).
    rows = replace(rows, untrained=len({*untrained} - {*tokenizer.all_special_ids}))
    sections = propose(shape, rows, preset, choose_device("auto"))
    head = f"# Proposed by edgetune init, preset {preset}. Every key: edgetune run {path} --dry-run"

    def write() -> tuple[str, Recipe]:
        proposed: Sections = {
            "model": {"path": Value(model)},
            "data": {"train": Value(data, f"{rows.train:,} rows train"), **sections["data"]},
            **{key: sections[key] for key in ("tune", "distill") if key in sections},
            **{key: sections.get(key, {}) for key in _SECTIONS},
        }
        text = f"{head}\nname: {name}\nseed: 0\n{write_sections(proposed)}"
        return text, check_tree(yaml.safe_load(text), str(path))

    _, recipe = write()
    stages = [*(key for key in ("tune", "distill") if key in sections), *_SECTIONS, REPORT]
    try:
        check_run(recipe, stages)
    except GateFailed:  # the smallest mix of types is larger than the budget
        sections["quantize"].pop("budget")
        _, recipe = write()
        check_run(recipe, stages)
    for change in find_changes(recipe, path.parent):
        section, _, key = change.key.partition(".")
        sections[section][key] = Value(change.new, f"{change.old} would not fit the memory")
    return write()[0]


def write_sections(sections: Sections) -> str:
    """Return sections as YAML, each value with its reason as a comment."""
    lines = []
    for name, values in sections.items():
        if not values:
            lines.append(f"{name}: {{}}")
            continue
        lines.append(f"{name}:")
        for key, one in values.items():
            written = yaml.safe_dump(one.value, default_flow_style=True, width=10_000)
            line = f"  {key}: {written.splitlines()[0]}"
            lines.append(f"{line:<28} # {one.why}" if one.why else line)
    return "\n".join(lines) + "\n"


def _propose(model: str) -> dict[str, object]:
    """Return what the recipe proposes for a model: by its own sizes, where it lies here."""
    from edgetune.models.resolve import resolve_model
    from edgetune.naming import is_hub_id

    unknown = {"method": "qlora", "why": "", "layers": 8, "depth": ""}
    if is_hub_id(model):
        return unknown
    from edgetune.models.shape import read_shape
    from edgetune.models.tuning_method import propose_method

    try:
        shape = read_shape(resolve_model(model))
    except EdgetuneError:  # what is wrong with it is said when it is opened
        return unknown
    method, why = propose_method(shape)
    layers = max(1, (shape.layers or 2) // 2)
    depth = f", {shape.layers} in all" if shape.layers else ""
    return {"method": method, "why": " " * (15 - len(method)) + f"# {why}", "layers": layers,
            "depth": depth}  # fmt: skip
