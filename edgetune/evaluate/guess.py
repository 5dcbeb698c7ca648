"""Guess the task from rows: what the expected answers look like, and what is asked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from edgetune.evaluate.command import split_command
from edgetune.evaluate.json_values import ABSENT, parse
from edgetune.evaluate.multiple_choice import find_choice
from edgetune.evaluate.scripts import main_script
from edgetune.evaluate.tool_calls import find_calls

ROWS = 2000  # that are looked at, spread over all
MOST = 0.9  # of the rows: the answers are of a form
LABEL_WORDS, LABEL_LETTERS = 8, 80  # of a label at most
REPEATED = 0.5  # of the rows: an answer that another row has too
ANSWER_WORDS = 6  # of an answer that is right or wrong as a whole
_NUMBER = re.compile(r"\s*[-+]?[$€£]?\s*\d[\d.,]*\s*%?\s*")
_FINAL = re.compile(r"####\s*[-+]?[$€£]?\d")
_CHOICES = re.compile(r"(?:^|\s)\(?A[).:]\s.*?\(?B[).:]\s", re.DOTALL)
_TRANSLATE = re.compile(
    r"\btranslat|\bübersetz|\btradu[cizs]|перевед|翻译|翻譯|訳し", re.IGNORECASE
)
#: Of a shell: an option behind a word, a pipe, a path or a variable.
_SHELL = re.compile(r"\s--?[A-Za-z]|\s\|\s|\$[({A-Za-z]|(?:^|\s)[~.]?/\w|&&|\s>\s")
_NAMES = """
awk apt apt-get basename bash cat cd chgrp chmod chown cmp comm cp crontab curl cut date dd df
diff dig dirname docker du echo egrep env exec export file find for function git grep gunzip
gzip head history hostname id if ifconfig ip join jobs kill kubectl ln ls make md5sum mkdir
mktemp mount mv nc nl nohup npm od paste ping pip printf ps pwd python read readlink rename rev
rm rmdir rsync scp screen sed seq set sh shopt shuf sleep sort source split ssh stat su sudo sum
systemctl tac tail tar tee test time top touch tr tree true tty type ulimit umount uname uniq
unset unzip uptime wc wget which while who whoami xargs yes zcat zip
"""
_PROGRAMS = frozenset(_NAMES.split())


def guess_task(prompts: Sequence[str], expected: Sequence[str]) -> tuple[str, str]:
    """Return the task that rows look like, and a sentence that says why.

    Args:
        prompts: what is asked, as text.
        expected: the right answers, as text.

    Returns:
        A name of :data:`edgetune.evaluate.TASKS`; ``exact`` of no rows.
    """
    at = np.unique(np.linspace(0, len(expected) - 1, min(len(expected), ROWS)).astype(int))
    answers = [expected[row].strip() for row in at]
    asked = [prompts[row] for row in at]
    if not any(answers):
        return "exact", "no row has an expected answer"
    for look in (_json, _choices, _numbers, _labels, _commands, _translations):
        found = look(asked, answers)
        if found:
            return found
    short = _fraction(answers, lambda text: len(text.split()) <= ANSWER_WORDS)
    if short >= MOST:
        why = (
            f"{_percent(short)} of the answers have at most {ANSWER_WORDS} words, few of them alike"
        )
        return "exact", why
    words = float(np.median([len(text.split()) for text in answers]))
    return "generation", f"answers are free text, {words:,.0f} words in the median"


def _json(asked: Sequence[str], answers: Sequence[str]) -> tuple[str, str] | None:
    calls = _fraction(answers, lambda text: bool(find_calls(text)))
    if calls >= REPEATED:
        return "tool_calls", f"{_percent(calls)} of the answers call a tool by name"
    values = _fraction(answers, lambda text: text[:1] in "[{" and parse(text) is not ABSENT)
    if values >= MOST:
        return "extraction", f"{_percent(values)} of the answers are JSON objects or lists"
    return None


def _choices(asked: Sequence[str], answers: Sequence[str]) -> tuple[str, str] | None:
    letters = _fraction(answers, lambda text: bool(find_choice(text)))
    listed = _fraction(asked, lambda text: bool(_CHOICES.search(text)))
    if min(letters, listed) < MOST:
        return None
    return "multiple_choice", f"{_percent(listed)} of the prompts list choices A, B, …"


def _numbers(asked: Sequence[str], answers: Sequence[str]) -> tuple[str, str] | None:
    final = _fraction(answers, lambda text: bool(_FINAL.search(text)))
    if final >= MOST:
        return "numeric", f"{_percent(final)} of the answers end with '####' and a number"
    numbers = _fraction(answers, lambda text: bool(_NUMBER.fullmatch(text)))
    if numbers < MOST:
        return None
    if len(set(answers)) <= 10 and _repeated(answers) >= MOST:
        why = f"{len(set(answers))} numbers recur as answers, as labels do"
        return "classification", why
    return "numeric", f"{_percent(numbers)} of the answers are a number"


def _labels(asked: Sequence[str], answers: Sequence[str]) -> tuple[str, str] | None:
    short = _fraction(
        answers,
        lambda text: (
            "\n" not in text and len(text) <= LABEL_LETTERS and len(text.split()) <= LABEL_WORDS
        ),
    )
    repeated = _repeated(answers)
    if short < MOST or repeated < REPEATED:
        return None
    labels = len(set(answers))
    rows = f"{_percent(repeated)} of {len(answers):,} rows"
    return "classification", f"{labels:,} short answers recur: {rows} have one of another row"


def _commands(asked: Sequence[str], answers: Sequence[str]) -> tuple[str, str] | None:
    def is_command(text: str) -> bool:
        lines = [line for line in text.splitlines() if line.strip()]
        if not lines or len(lines) > 5:
            return False
        first = split_command(lines[0])[:1]
        known = bool(first) and first[0].strip("'\"").rsplit("/", 1)[-1] in _PROGRAMS
        return known and (bool(_SHELL.search(text)) or not text.endswith((".", "!", "?")))

    commands = _fraction(answers, is_command)
    if commands < 0.7:
        return None
    return "command", f"{_percent(commands)} of the answers begin with the name of a shell command"


def _translations(asked: Sequence[str], answers: Sequence[str]) -> tuple[str, str] | None:
    said = _fraction(asked, lambda text: bool(_TRANSLATE.search(text)))
    if said >= REPEATED:
        return "translation", f"{_percent(said)} of the prompts ask for a translation"
    scripts = main_script(asked), main_script(answers)
    if all(scripts) and scripts[0] != scripts[1]:
        names = [script.capitalize() for script in scripts]
        return "translation", f"prompts are in {names[0]} letters and answers in {names[1]}"
    return None


def _fraction(texts: Sequence[str], test: Callable[[str], bool]) -> float:
    return sum(map(test, texts)) / len(texts)


def _repeated(answers: Sequence[str]) -> float:
    """Return the fraction of rows whose answer another row has too."""
    counts = Counter(answers)
    return sum(count for count in counts.values() if count > 1) / len(answers)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f} %"
