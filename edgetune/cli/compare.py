"""``edgetune compare``: a page on which people vote blindly, and what their votes say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgetune.cli.options import answer, make_log, require
from edgetune.errors import InputError

if TYPE_CHECKING:
    from edgetune.votes.answers import Asking
    from edgetune.votes.judge_model import Judge
    from edgetune.votes.page import Question

COUNT = click.IntRange(1)


@click.command("compare")
@click.argument("names", nargs=-1, required=True, metavar="A B [C ...] | RUN | PAGE | VOTES ...")
@click.option("--data", type=click.Path(path_type=Path), help="Rows that the models answer.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The page (default: compare.html), or the votes of a judge model on a page.",
)
@click.option("--rows", type=COUNT, default=100, show_default=True, help="Rows, by the seed.")
@click.option(
    "--comparisons", type=COUNT, default=200, show_default=True, help="Most of them on the page."
)
@click.option(
    "--max-new-tokens", type=COUNT, default=256, show_default=True, help="Longest answer."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of rows, order and sides.")
@click.option("--system", help="System message for rows without one.")
@click.option("--show-expected", is_flag=True, help="Let voters look at the row's own answer.")
@click.option(
    "--confidential", is_flag=True, help="The page says so, and no endpoint is sent its texts."
)
@click.option("--votes", "counting", is_flag=True, help="Count votes exported from a page.")
@click.option(
    "--judge",
    "judge_name",
    metavar="MODEL",
    help="Let a judge model vote: folder, GGUF file, or an endpoint's address.",
)
@click.option(
    "--judge-by",
    type=click.Choice(["reply", "likelihood"]),
    default="reply",
    show_default=True,
    help="What a local judge model votes by: what it writes, or which verdict is likelier.",
)
@click.option("--judge-model", help="The endpoint's name of the model.")
@click.option("--judge-key-env", help="Environment variable that holds the endpoint's key.")
@click.option("--json", "as_json", is_flag=True, help="End stdout with one JSON line.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing on stderr but errors.")
def command(
    names: tuple[str, ...], data: Path | None, out: Path | None, rows: int, comparisons: int,
    max_new_tokens: int, seed: int, system: str | None, show_expected: bool, confidential: bool,
    counting: bool, judge_name: str | None, judge_by: str, judge_model: str | None,
    judge_key_env: str | None, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Write a page on which people vote blindly for the better of two answers, or count votes.

    \b
    edgetune compare A B --data rows.jsonl --out page.html    write the page
    edgetune compare RUN [MODEL ...] --out page.html          write it of a run's test answers
    edgetune compare page.html --judge MODEL                  let a judge model vote too
    edgetune compare --votes *.json                           count the votes

    A, B, … are Hugging Face folders, DIR+ADAPTER, GGUF files, ONNX folders or artifacts of a run.
    With a run's folder alone, the answers that its bench kept are shown; MODEL … are names of its
    report.
    The page is one HTML file for a browser, on a phone too. It holds the texts of the rows, loads
    and sends nothing, and keeps votes in the browser until the voter exports them. Which model
    wrote which answer is encoded in it, not encrypted. Order and sides are random, by the seed.

    --votes prints win rates, Bradley-Terry scores, position bias and agreement of voters, with
    95 % intervals. Votes of a judge model are counted by themselves, never with those of people.
    """
    from edgetune.votes.answers import Asking
    from edgetune.votes.judge_model import Judge

    judge = Judge(judge_name, judge_model, judge_key_env, judge_by) if judge_name else None
    if judge and judge.is_endpoint and confidential:
        raise InputError(
            "these rows are confidential, and an endpoint would be sent them",
            where="--judge",
            hint="name a local model",
        )
    if counting:
        _count(names, as_json)
        return
    if len(names) == 1 and names[0].endswith((".html", ".htm")):
        require(judge, "--judge", "name the model that votes on this page")
        assert judge is not None
        votes = out or _beside(Path(names[0]), judge)
        _vote(Path(names[0]), judge, votes, quiet)
        answer({"votes": str(votes)}, str(votes), as_json)
        return
    asking = Asking(rows, seed, max_new_tokens, system, show_expected)
    page = out or Path("compare.html")
    result = _write(names, data, asking, (comparisons, confidential), page, quiet)
    text = (
        f"{page}: {result['comparisons']:,} comparisons of {result['models']} models on "
        f"{result['rows']:,} rows; it holds their texts"
    )
    if judge is not None:
        votes = _beside(page, judge)
        _vote(page, judge, votes, quiet)
        result["votes"] = str(votes)
        text += f"\n{votes}"
    answer(result, text, as_json)


def _write(
    names: tuple[str, ...], data: Path | None, asking: Asking, how: tuple[int, bool], page: Path,
    quiet: bool,
) -> dict[str, Any]:  # fmt: skip
    """Write the page, of answers that models give now or that a run kept."""
    from edgetune.disk import write_atomic
    from edgetune.votes.page import write_page
    from edgetune.votes.pairs import choose_items

    most, confidential = how
    if data is None:
        titles, answers, questions = _read_run(names, asking, confidential)
    else:
        titles, answers, questions = _ask(names, data, asking, quiet)
    items, pairs = choose_items(answers, most, asking.seed)
    if not items:
        raise InputError(
            f"all models answer all {len(questions)} rows alike: there is nothing to vote on",
            where=str(data or names[0]),
            hint="raise --rows, or name other models",
        )
    text, key = write_page(titles, answers, questions, (items, pairs, asking.seed), confidential)
    write_atomic(page, text)
    return {
        "page": str(page), "id": key.page, "models": len(titles), "comparisons": len(items),
        "rows": len(questions),
    }  # fmt: skip


def _ask(
    names: tuple[str, ...], data: Path, asking: Asking, quiet: bool
) -> tuple[list[str], list[list[str]], list[Question]]:
    """Return models' names, their answers to rows of a file, and the rows."""
    from edgetune.votes.answers import answer_rows, as_question, name_models, read_questions

    log = make_log(quiet)
    titles = name_models(names)
    rows = read_questions(data, asking, log)
    answers = [answer_rows(name, rows, asking, log) for name in names]
    return titles, answers, [as_question(row, asking) for row in rows]


def _read_run(
    names: tuple[str, ...], asking: Asking, confidential: bool
) -> tuple[list[str], list[list[str]], list[Question]]:
    """Return what a run's models answered; its folder is named first."""
    from edgetune.votes.run_answers import find_predictions, read_answers

    kept = find_predictions(Path(names[0]))
    if kept is None:
        require(None, "--data", "name a file of rows that the models answer")
        raise AssertionError
    if kept.confidential and not confidential:
        raise InputError(
            "this run's rows are confidential, and the page holds their texts",
            where=names[0],
            hint="--confidential writes the page, which then says so",
        )
    return read_answers(kept, names[1:], asking)


def _count(names: tuple[str, ...], as_json: bool) -> None:
    """Print what votes say."""
    from edgetune.votes.ballots import read_ballots
    from edgetune.votes.results import count_all
    from edgetune.votes.table import render_table

    found = count_all(*read_ballots([Path(name) for name in names]))
    answer(found, render_table(found), as_json)


def _vote(page: Path, judge: Judge, out: Path, quiet: bool) -> None:
    """Write a judge model's votes on a page."""
    from edgetune.votes.ballots import write_votes
    from edgetune.votes.judge_model import ask_judge, open_judge
    from edgetune.votes.page import read_page

    key, items = read_page(page)
    teacher = open_judge(judge)
    try:
        ballot = ask_judge(judge, teacher, key, items, make_log(quiet))
    finally:
        teacher.close()
    write_votes(out, key, ballot)


def _beside(page: Path, judge: Judge) -> Path:
    return page.with_name(f"{page.stem}-votes-{Path(judge.title).name}.json")
