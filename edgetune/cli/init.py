"""``edgetune init``: a recipe to start from."""

from __future__ import annotations

from pathlib import Path

import click

from edgetune.errors import EdgetuneError, InputError
from edgetune.naming import clean_name

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


@click.command("init")
@click.argument("path", type=click.Path(path_type=Path), default="recipe.yaml")
@click.option("--model", default="embedded:base", show_default=True, help="Base model.")
@click.option("--data", default="embedded:devices/train.jsonl", show_default=True, help="Rows.")
def command(path: Path, model: str, data: str) -> None:
    """Write a starter recipe to PATH (recipe.yaml) and say what to do next."""
    if path.exists():
        raise InputError("this file exists and is not overwritten", where=str(path))
    name = clean_name(path.stem, "run")
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {"file": path, "name": name, "model": model, "data": data, **_propose(model)}
    path.write_text(_RECIPE.format(**known), encoding="utf-8")
    click.echo(str(path))
    click.echo(f"next: edgetune run {path} --dry-run", err=True)


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
