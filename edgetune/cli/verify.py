"""``edgetune verify``: compare a candidate model with a reference, and name what differs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgetune import api
from edgetune.cli.options import judge, make_log
from edgetune.errors import GateFailed, InputError

if TYPE_CHECKING:
    from edgetune.compare.comparison import Comparison
    from edgetune.diagnose.bisect import Step, StepResult
    from edgetune.log import Log


@click.command("verify")
@click.argument("models", nargs=-1, required=True, metavar="REFERENCE CANDIDATE")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Rows to compare on (default: built-in prose and the first model's own answers).",
)
@click.option(
    "--tokens", type=click.IntRange(16), default=4096, show_default=True, help="At most so many."
)
@click.option(
    "--bisect", is_flag=True, help="Compare each step of a run, or of a sequence of models."
)
@click.option("--json", "as_json", is_flag=True, help="End stdout with one JSON line.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing on stderr but errors.")
def command(
    models: tuple[str, ...],
    data: Path | None,
    tokens: int,
    bisect: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare CANDIDATE with REFERENCE: tokenizer, template, stopping, weights, in this order.

    REFERENCE and CANDIDATE are Hugging Face folders, DIR+ADAPTER, GGUF files, ONNX folders or
    artifacts of a run, made by anyone. With --bisect give a run's folder, or three and more models
    in their order: the first failing step is named.

    An adapter belongs to the weights it was trained over: the original ones, or their NF4 values
    (QLoRA). Adapters of `edgetune tune` say which. Where nothing does, both are compared and the
    verdict says so; DIR@nf4+ADAPTER, DIR@nf4:bfloat16+ADAPTER or DIR@original+ADAPTER decides.

    The measured KL decides on the weights: a difference between files that changes no answer is a
    note. Exit code 3: the candidate differs from the reference.
    """
    if bisect:
        _bisect(models, data, tokens, as_json, quiet)
        return
    if len(models) != 2:
        raise InputError(
            f"{len(models)} models given, not 2",
            where="command line",
            hint="edgetune verify REFERENCE CANDIDATE",
        )
    found = api.verify(models[0], models[1], data, tokens=tokens, log=make_log(quiet))
    failure = (
        None
        if found.ok
        else GateFailed(
            f"the candidate differs from the reference: {found.failing_check}", where=models[1]
        )
    )
    judge(found.to_json(), table(found), as_json, failure)


def _bisect(
    models: tuple[str, ...], data: Path | None, tokens: int, as_json: bool, quiet: bool
) -> None:
    from edgetune.diagnose.bisect import first_failing, paths_to_steps, verify_steps

    log = make_log(quiet)
    steps = _steps_of(Path(models[0]), log) if len(models) == 1 else paths_to_steps(models)
    results = verify_steps(steps, api.read_question(data, tokens), log)
    failing = first_failing(results)
    result: dict[str, Any] = {
        "verdict": "fail" if failing else "pass",
        "first_failing_step": failing.name if failing else None,
        "failing_check": failing.comparison.failing_check if failing else None,
        "steps": [result.to_json() for result in results],
    }
    failure = None
    if failing:
        what = f"the first failing step is '{failing.name}': {failing.comparison.failing_check}"
        failure = GateFailed(what, where=models[0])
    judge(result, steps_table(results), as_json, failure)


def _steps_of(folder: Path, log: Log) -> list[Step]:
    """Return the steps between the artifacts that a run's own recipe leads to."""
    from edgetune import pipeline
    from edgetune.diagnose.bisect import find_steps, newest_generation
    from edgetune.recipe.load import load_recipe
    from edgetune.rundir import RunDir

    made = {}
    why = "it has no recipe.yaml"
    if (folder / "recipe.yaml").is_file():
        why = "its recipe's model or data changed since, or it has not been run"
        try:
            planned = pipeline.plan_run(load_recipe(folder / "recipe.yaml")[0], RunDir(folder))
            made = {step.label: step.artifact for step in planned if step.artifact}
        except InputError as error:  # a model or rows that lie here no longer
            why = str(error)
    if "merge" not in made:
        made = newest_generation(folder)
        log.warn(f"{why}: the newest files and what they were made of are looked at")
    return find_steps(made, folder)


_MARKS = {True: ("ok", "green"), False: ("FAIL", "red"), None: ("–", "yellow")}


def table(found: Comparison) -> str:
    """Return the verdict for a person: one line per check, then the faults."""
    lines = [
        *(
            f"{role:<10} {model['spec']}  ({model['format']}, {model['scheme']})"
            for role, model in (("reference", found.reference), ("candidate", found.candidate))
        ),
        "",
    ]
    for check in found.checks:
        text, colour = _MARKS[check.ok]
        lines.append(f"{check.name:<10} {click.style(f'{text:<4}', fg=colour)}  {check.what}")
    for fault in found.faults:
        lines += [
            "",
            click.style(f"{fault.kind}: {fault.name.replace('_', ' ')}", fg="red", bold=True),
            f"  {fault.what}",
            f"  at {fault.where}",
            f"  → {fault.advice}",
        ]
    for note in found.notes:
        lines += ["", f"{click.style('note', fg='yellow')}  {note}"]
    verdict = click.style("pass", fg="green", bold=True)
    if not found.ok:
        verdict = click.style(f"fail: {found.failing_check}", fg="red", bold=True)
    return "\n".join([*lines, "", f"verdict    {verdict} ({found.kind} pair)"])


def steps_table(results: list[StepResult]) -> str:
    """Return one line per step, and the first failing step in full."""
    width = max(len(result.name) for result in results)
    lines = []
    failing = None
    for result in results:
        figures = result.comparison.find("weights").figures
        kl = f"{figures['kl_mean']:.2e}" if "kl_mean" in figures else "–"
        text, colour = _MARKS[result.comparison.ok]
        said = "" if result.comparison.ok else str(result.comparison.failing_check)
        lines.append(f"{result.name:<{width}}  KL {kl:<9} {click.style(text, fg=colour)} {said}")
        if failing is None and not result.comparison.ok:
            failing = result
    if failing is not None:
        lines += [
            "",
            f"first failing step: {failing.name}",
            "",
            table(failing.comparison),
        ]
    return "\n".join(lines)
