"""A page of two models for tests, with texts that try to be markup."""

from __future__ import annotations

from edgetune.votes.page import Key, Question, write_page
from edgetune.votes.pairs import choose_items

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>&amp; <!--"


def make_page(rows: int = 6, models: int = 2, confidential: bool = False) -> tuple[str, Key]:
    """Return a page and its key; the models are called ``secret-0``, ``secret-1``, …"""
    questions = [
        Question([("user", f"question {n} {HOSTILE}")], "own" * (n % 2)) for n in range(rows)
    ]
    answers = [[f"answer {model} of {n} {HOSTILE}" for n in range(rows)] for model in range(models)]
    items, pairs = choose_items(answers, 1000, 0)
    names = [f"secret-{model}" for model in range(models)]
    return write_page(names, answers, questions, (items, pairs, 0), confidential)
