"""``edgetune sweep``: search the settings of a recipe."""

from __future__ import annotations

from pathlib import Path

import click

from edgetune.cli.options import answer, common_options, show_plan
from edgetune.log import Log
from edgetune.recipe.load import load_recipe
from edgetune.recipe.trial import describe_space
from edgetune.sweep.entry import default_folder, require_optuna


@click.command("sweep")
@click.argument("recipe_path", metavar="RECIPE", type=click.Path(path_type=Path))
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Trials of the study, those included that are done already.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the sweep.  [default: runs/<name of the recipe>-sweep]",
)
@click.option(
    "--storage",
    help="Database of the study, which processes of several machines may share: "
    "postgresql://USER@HOST/DATABASE or sqlite:///FILE.  [default: a file in the folder]",
)
@click.option("--study", help="Name of the study in it.  [default: the recipe's name]")
def command(
    recipe_path: Path,
    trials: int,
    out: Path | None,
    storage: str | None,
    study: str | None,
    overrides: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Search the settings that the section `search` of RECIPE names.

    Each trial is a run, measured on validation rows, on the file that ships; the first has the
    recipe's own values. At the end the best and the first are compared on the test rows. The same
    command goes on where it was interrupted; several processes may work on one study.
    """
    recipe, origins = load_recipe(recipe_path, overrides)
    folder = out or default_folder(recipe)
    require_optuna()
    from edgetune.report.sweep import summarise
    from edgetune.sweep.place import Sweep
    from edgetune.sweep.run import check_sweep, run_sweep

    log = Log(None if dry_run else folder / "log.jsonl", quiet=quiet)
    sweep = Sweep(recipe, origins, folder, trials, log)
    if dry_run:
        for warning in check_sweep(sweep):
            log.warn(warning)
        show_plan(recipe, origins, describe_space(recipe), as_json)
        return
    report = run_sweep(sweep, storage, study)
    page = folder / "report" / "report.html"
    result = {"report": str(page), "best": report["best"], "comparison": report["comparison"]}
    log.say(summarise(report))
    answer({**result, "trials": len(report["trials"])}, str(page), as_json)


for option in reversed(common_options()):
    command = option(command)
