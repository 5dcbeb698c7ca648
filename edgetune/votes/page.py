"""The page on which people vote: one HTML file that loads nothing and sends nothing.

Its key says which model wrote which answer. It is encoded (base64), not encrypted: nobody reads it
by accident, and whoever wants to can decode it. Votes carry the key, so that they can be counted
without the page, and no text of a row.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from edgetune.errors import InputError
from edgetune.votes.pairs import Item, Pair

SCHEMA = 1
_DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)


@dataclass(frozen=True)
class Question:
    """A row that models answered.

    Attributes:
        turns: role and text of each.
        expected: the row's own answer; empty where it is not to be shown.
    """

    turns: Sequence[tuple[str, str]]
    expected: str = ""


@dataclass(frozen=True)
class Key:
    """What was shown where.

    Attributes:
        models: their names.
        items: the comparisons in the page's order.
        pairs: which models were compared, and rows left out since both answered the same.
        seed: of order and sides.
        texts: SHA-256 of all texts of the page.
    """

    models: Sequence[str]
    items: Sequence[Item]
    pairs: Sequence[Pair]
    seed: int
    texts: str

    def encode(self) -> str:
        """Return it as base64."""
        return base64.b64encode(self._json()).decode()

    @property
    def page(self) -> str:
        """The page's id: a hash of the key, and so of every text."""
        return hashlib.sha256(self._json()).hexdigest()[:16]

    def _json(self) -> bytes:
        items = [[item.row, item.first, item.second] for item in self.items]
        value = {**asdict(self), "items": items, "schema": SCHEMA}
        return json.dumps(value, ensure_ascii=False, sort_keys=True).encode()


def decode_key(text: Any, where: str) -> Key:
    """Return the key of a page or of votes.

    Raises:
        InputError: it is none, or not as it was written.
    """
    try:
        value = json.loads(base64.b64decode(text, validate=True))
        models = [str(name) for name in value["models"]]
        items = [Item(int(row), int(a), int(b)) for row, a, b in value["items"]]
        pairs = [
            Pair((int(a), int(b)), int(one["equal"]), int(one["rows"]))
            for one in value["pairs"]
            for a, b in [one["models"]]
        ]
        key = Key(models, items, pairs, int(value["seed"]), str(value["texts"]))
        known = range(len(models))
        shown = [(item.first, item.second) for item in items] + [pair.models for pair in pairs]
        if any(a == b or a not in known or b not in known for a, b in shown):
            raise ValueError("a comparison of no two models")
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise InputError(
            "the key cannot be read", where=where, hint="export the votes from the page again"
        ) from error
    return key


def write_page(
    names: Sequence[str],
    answers: Sequence[Sequence[str]],
    questions: Sequence[Question],
    chosen: tuple[Sequence[Item], Sequence[Pair], int],
    confidential: bool = False,
) -> tuple[str, Key]:
    """Return the page and its key.

    Args:
        names: of the models.
        answers: of each model, one text per row.
        questions: the rows.
        chosen: comparisons, pairs and seed, see :func:`edgetune.votes.pairs.choose_items`.
        confidential: whether the page says that its texts are.
    """
    items, pairs, seed = chosen
    shown = []
    for item in items:
        question = questions[item.row]
        both = [answers[item.first][item.row], answers[item.second][item.row]]
        one: dict[str, Any] = {"turns": [list(turn) for turn in question.turns], "answers": both}
        shown.append({**one, "expected": question.expected} if question.expected else one)
    texts = hashlib.sha256(json.dumps(shown, ensure_ascii=False).encode("utf-8", "replace"))
    key = Key(names, items, pairs, seed, texts.hexdigest())
    data = {"page": key.page, "key": key.encode(), "items": shown}
    folder = resources.files("edgetune.votes")
    script = folder.joinpath("page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=PackageLoader("edgetune.votes", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    page = environment.get_template("page.html.j2").render(
        style=Markup(folder.joinpath("page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_sha256=digest,
        data=Markup(_as_script(data)),
        items=len(items),
        confidential=confidential,
    )
    return page.lstrip(), key


def _as_script(value: Any) -> str:
    """Return JSON that ends no script element, whatever its texts say."""
    text = json.dumps(value, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def read_page(path: Path) -> tuple[Key, list[dict[str, Any]]]:
    """Return a page's key, and turns and answers of each of its comparisons.

    Raises:
        InputError: it is no such page.
    """
    try:
        found = _DATA.search(path.read_text(encoding="utf-8"))
        value = json.loads(found[1]) if found else {}
        items = list(value["items"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "not a page of this command", where=str(path), hint="edgetune compare A B --data rows"
        ) from error
    key = decode_key(value.get("key"), str(path))
    if len(key.items) != len(items) or key.page != value.get("page"):
        raise InputError("the page's key is of another page", where=str(path))
    return key, items
