"""Shell commands and lines of code: equal but for white space, and by their tokens."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Sequence

from edgetune.evaluate import Graded, Line, Questions, Score, Table, score_hits
from edgetune.measure.bootstrap import bounded_mean
from edgetune.measure.definitions import Definition

_FENCE = re.compile(r"\s*```[\w+-]*[ \t]*\n(.*?)\n?[ \t]*```\s*", re.DOTALL)
NAMES = 50  # of the table

DEFINITIONS = {
    "command_match": Definition(
        "Equal command", "",
        "fraction of rows whose answer is the row's command, white space outside quotes and a "
        "fence of code around it aside; another command of the same effect counts as wrong; the "
        "interval is Wilson's",
    ),
    "command_token_f1": Definition(
        "Token F1", "",
        "mean over rows of the harmonic mean of precision and recall of the command's tokens, as a "
        "shell splits them; the interval is BCa's bootstrap over rows",
    ),
    "first_word_accuracy": Definition(
        "Right program", "",
        "fraction of rows whose answer begins with the row's first word; the interval is Wilson's",
    ),
}  # fmt: skip


def grade(questions: Questions, answers: Sequence[str]) -> Graded:
    """Grade commands.

    Raises:
        ValueError: not as many answers as questions, or none.
    """
    wanted = [split_command(text) for text in questions.expected]
    found = [split_command(text) for text in answers]
    pairs = list(zip(found, wanted, strict=True))
    right = [one == other for one, other in pairs]
    overlap = [token_f1(one, other) for one, other in pairs]
    first = [one[:1] == other[:1] for one, other in pairs]
    scores = [
        score_hits("command_match", right),
        Score("command_token_f1", bounded_mean(overlap), overlap, bounds=(0.0, 1.0)),
        score_hits("first_word_accuracy", first),
    ]
    return Graded(scores, right, [_per_program(wanted, first, right)])


def split_command(text: str) -> list[str]:
    """Return a command's tokens: words with their quotes, operators, and the ends of its lines.

    Where quotes are not closed, words are split at white space.
    """
    fenced = _FENCE.fullmatch(text)
    tokens: list[str] = []
    for line in _lines(fenced[1] if fenced else text):
        tokens += [*line, "\n"]
    return tokens[:-1]


def token_f1(found: Sequence[str], wanted: Sequence[str]) -> float:
    """Return the F1 of two lists of tokens, order aside; 1 where both are empty."""
    if not found and not wanted:
        return 1.0
    both = (Counter(found) & Counter(wanted)).total()
    return 2 * both / (len(found) + len(wanted))


def _lines(text: str) -> list[list[str]]:
    """Return the tokens of each line; a quoted word may span lines."""
    lines = [_tokens(line) for line in text.strip().splitlines() if line.strip()]
    if all(line is not None for line in lines):
        return [line for line in lines if line is not None]
    whole = _tokens(text.strip())
    return [whole if whole is not None else text.split()]


def _tokens(text: str) -> list[str] | None:
    """Return a text's tokens, quotes kept; ``None`` where a quote is not closed."""
    reader = shlex.shlex(text, posix=False, punctuation_chars=True)
    reader.commenters, reader.whitespace_split = "", True
    try:
        return list(reader)
    except ValueError:
        return None


def _per_program(
    wanted: Sequence[Sequence[str]], first: Sequence[bool], right: Sequence[bool]
) -> Table:
    rows: dict[str, list[int]] = {}
    for at, tokens in enumerate(wanted):
        rows.setdefault(tokens[0] if tokens else "", []).append(at)
    lines: list[Line] = []
    for name, members in sorted(rows.items(), key=lambda pair: (-len(pair[1]), pair[0]))[:NAMES]:
        hits = [sum(values[at] for at in members) / len(members) for values in (first, right)]
        lines.append([name, len(members), *hits])
    columns = ["Program", "Rows", "Right program", "Equal command"]
    return Table("per_program", "Per program", columns, lines)
