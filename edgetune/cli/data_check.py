"""`edgetune data check`: what is in the data, on one page."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgetune.errors import InputError
from edgetune.log import Log

if TYPE_CHECKING:
    from edgetune.recipe import Recipe


@click.command()
@click.option("--recipe", type=click.Path(path_type=Path), help="Recipe with model and data.")
@click.option("--data", help="Data file, folder or pattern, instead of data.train.")
@click.option("--model", help="Model folder whose tokenizer is used, instead of model.path.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override the recipe.")
@click.option(
    "--dataset",
    type=click.Path(path_type=Path),
    help="What edgetune prepare wrote, instead of preparing here.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("data-check.html"),
    show_default=True,
    help="The page.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what is on the page as one JSON line.")
def check(
    recipe: Path | None,
    data: str | None,
    model: str | None,
    overrides: tuple[str, ...],
    dataset: Path | None,
    out: Path,
    as_json: bool,
) -> None:
    """Write one HTML page: lengths, labels, languages, duplicates, leaks, what was left out."""
    from edgetune.data.dataset.check import check_dataset
    from edgetune.disk import write_atomic
    from edgetune.recipe.load import load_recipe
    from edgetune.report.data_check import render_check

    if dataset is not None:
        if recipe or data or model or overrides:
            raise InputError(
                "a dataset is prepared already",
                where="--dataset",
                hint="name it alone, or --recipe, --data and --model without it",
            )
        if not (dataset / "dataset.json").is_file():
            raise InputError(
                "no dataset", where=str(dataset), hint="name a folder that edgetune prepare wrote"
            )
        name, found = dataset.name, check_dataset(dataset)
    else:
        if recipe is None and (data is None or model is None):
            raise InputError(
                "there is nothing to check",
                where="edgetune data check",
                hint="name --recipe FILE, --data FILE and --model DIR, or --dataset DIR",
            )
        resolved, _ = load_recipe(recipe, overrides, {"data.train": data, "model.path": model})
        name = resolved.name if recipe is not None else Path(str(data)).name
        with tempfile.TemporaryDirectory(prefix="edgetune-") as folder:
            similarity = _prepare(resolved, Path(folder))
            found = check_dataset(Path(folder) / "dataset", similarity)
    write_atomic(out, render_check(found, name))
    click.echo(json.dumps(found, ensure_ascii=False) if as_json else str(out))


def _prepare(recipe: Recipe, folder: Path) -> float:
    """Prepare the rows of a recipe in ``folder/dataset``; return the similarity of its pairs."""
    from edgetune.data.contract import freeze_clock
    from edgetune.data.dataset.encoding import Encoding
    from edgetune.data.dataset.make import make_dataset
    from edgetune.data.dataset.settings import Settings
    from edgetune.models.resolve import resolve_model

    if recipe.data is None:
        raise InputError("the recipe names no data", where="data", hint="data: {train: FILE}")
    tokenizer = resolve_model(recipe.model.path, recipe.model.revision)
    end_token = recipe.tokenizer.end_token
    encoding = Encoding(str(tokenizer), end_token, freeze_clock(folder))
    settings = Settings(recipe.data, recipe.seed, encoding)
    make_dataset(settings, folder / "dataset", folder / "shards", Log())
    return recipe.data.clean.similarity
