"""`edgetune data show`: what training will see, row by row."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgetune.cli.data_check import check
from edgetune.errors import InputError
from edgetune.log import Log, counted

if TYPE_CHECKING:
    from edgetune.data.encode import Encoder
    from edgetune.data.encoded import Encoded
    from edgetune.recipe import Recipe


@click.group(name="data")
def command() -> None:
    """Look at the data that a recipe names."""


command.add_command(check)


@command.command()
@click.option("--recipe", type=click.Path(path_type=Path), help="Recipe with model and data.")
@click.option("--data", help="Data file, folder or pattern, instead of data.train.")
@click.option("--model", help="Model folder whose tokenizer is used, instead of model.path.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override the recipe.")
@click.option("--rows", default=3, show_default=True, type=click.IntRange(0), help="Rows to print.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line instead.")
def show(
    recipe: Path | None,
    data: str | None,
    model: str | None,
    overrides: tuple[str, ...],
    rows: int,
    as_json: bool,
) -> None:
    """Print rows as tokens see them, the trained part coloured; lengths; what was dropped."""
    from edgetune.recipe.load import load_recipe

    if recipe is None and (data is None or model is None):
        raise InputError(
            "there is nothing to show",
            where="edgetune data show",
            hint="name --recipe FILE, or --data FILE and --model DIR",
        )
    flags = {"data.train": data, "model.path": model}
    found, _ = load_recipe(recipe, overrides, flags)
    facts, shown = _read(found, rows)
    if as_json:
        click.echo(json.dumps({**facts, "shown": shown}, ensure_ascii=False))
        return
    for row in shown:
        click.echo(click.style(f"── {row['where']}  {counted(row['length'], 'token')}", dim=True))
        click.echo("".join(_paint(part) for part in row["parts"]) + "\n")
    _print_facts(facts)


def _read(recipe: Recipe, count: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the facts of all splits, and the first train rows in parts."""
    from edgetune.data.build_encoder import make_encoder
    from edgetune.data.dataset.make import load_splits
    from edgetune.data.encode_rows import encode_rows
    from edgetune.models.resolve import resolve_model
    from edgetune.models.tokenizer_files import load_tokenizer

    section = recipe.data
    if section is None:
        raise InputError("the recipe names no data", where="data", hint="data: {train: FILE}")
    log = Log()
    tokenizer = load_tokenizer(resolve_model(recipe.model.path, recipe.model.revision))
    splits = load_splits(section, recipe.seed, log, tokenizer)
    encoder = make_encoder(tokenizer, section, recipe.tokenizer.end_token)
    prepared = {
        name: encode_rows(encoder, getattr(splits, name), log, name, section.on_bad_row)
        for name in ("train", "validation", "test")
    }
    train = prepared["train"]
    shown = [
        {"where": row.where, "length": len(one.ids), "parts": _parts(encoder, one)}
        for row, one in zip(train.rows[:count], train.encoded[:count], strict=True)
    ]
    tokens = {name: one.facts for name, one in prepared.items()}
    return {**splits.facts, "tokens": tokens}, shown


def _parts(encoder: Encoder, row: Encoded) -> list[dict[str, Any]]:
    """Split a row's text where training starts or stops."""
    cuts = [at for at in range(1, len(row.ids)) if row.trained[at] != row.trained[at - 1]]
    parts, shown = [], 0
    for start, end in zip([0, *cuts], [*cuts, len(row.ids)], strict=True):
        # Decoded from the row's beginning: a piece alone would lose its leading space.
        text = str(encoder.tokenizer.decode(list(row.ids[:end])))
        parts.append({"text": text[shown:], "trained": bool(row.trained[start])})
        shown = len(text)
    return parts


def _paint(part: dict[str, Any]) -> str:
    """Colour the trained part; where there is no colour (a pipe), put it in ⟦ ⟧."""
    if not part["trained"]:
        return str(part["text"])
    return click.style(part["text"], fg="green") if sys.stdout.isatty() else f"⟦{part['text']}⟧"


def _print_facts(facts: dict[str, Any]) -> None:
    click.echo(f"format      {facts['format']}, for {', '.join(facts['objectives'])}")
    for one in facts["provenance"]:
        known = [f"{key} {one[key]}" for key in ("license", "origin", "weight") if key in one]
        known += ["confidential"] if one.get("confidential") else []
        if known:
            click.echo(f"source      {one['path']} ({one['split']}): {', '.join(known)}")
    for name, one in facts["tokens"].items():
        lengths = one["lengths"]
        click.echo(
            f"{name:<11} {counted(one['rows'], 'row')}, {counted(one['tokens'], 'token')}, "
            f"{one['trained_tokens']:,} trained; a row has {lengths['min']} (min) "
            f"{lengths['p50']} (p50) {lengths['p95']} (p95) {lengths['max']} (max); "
            f"{one['truncated']} truncated, {one['dropped']} dropped"
        )
        for reason, count in one["refused"].items():
            click.echo(f"{'':<11} {count} refused: {reason}")
        if one["keys_unused"]:
            unused = one["keys_unused"].items()
            keys = ", ".join(f"{key} ({counted(count, 'row')})" for key, count in unused)
            click.echo(f"{'':<11} turn keys not used: {keys}")
        if one["cut_texts"]["texts"]:
            cut = one["cut_texts"]
            texts = counted(cut["texts"], "long text")
            click.echo(f"{'':<11} {texts} in {counted(cut['pieces'], 'piece')}")
        click.echo(f"{'':<11} {facts['sources'][name]}")
    refused = sum(sum(one["refused"].values()) for one in facts["tokens"].values())
    click.echo(f"bad rows    {sum(facts['skipped'].values()) + refused} skipped")
    for name, reasons in facts["skipped_reasons"].items():
        for reason, count in reasons.items():
            click.echo(f"{'':<11} {count} of {name}: {reason}")
    for name, reasons in facts["not_used"].items():
        for reason, count in reasons.items():
            click.echo(f"{'':<11} {count} of {name} not used: {reason}")
    unused = {"columns": facts["columns_unused"], "parts": facts["parts_unused"]}
    said = "; ".join(f"{what} {', '.join(names)}" for what, names in unused.items() if names)
    click.echo(f"not used    {said or 'none'}")
    same = facts["duplicates"]
    click.echo(
        f"duplicates  {same['train']} in train; in train too: {same['validation_in_train']} "
        f"of validation, {same['test_in_train']} of test"
    )
