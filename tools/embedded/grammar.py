"""Generate the device-command rows: spoken-style commands, each with its one JSON call.

    python -m tools.embedded.grammar --out edgetune/embedded/devices

The same seed gives the same bytes. Training and validation rows draw from the same templates and
values; of the test rows half are said with templates of their own, and most open slots hold a
value that no training row has.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from pathlib import Path

from tools.embedded import noise
from tools.embedded.daily_intents import DAILY
from tools.embedded.house_intents import HOUSE
from tools.embedded.slots import DRAWS, Slots

SEED = 4096
INTENTS = HOUSE | DAILY
SIZES = {"train": 8500, "validation": 500, "test": 1000}

#: Share of the rows whose template has a typo: more where there is something to learn from it.
_TYPOS = {"train": 0.25, "validation": 0.08, "test": 0.08}
#: At most this share of the test answers may also be the answer of a training row.
_SHARED_ANSWERS = 0.15
_ASKS = ("please", "can you", "could you", "can you please", "hey", "okay", "now")
_ENDS = ("please", "thanks", "for me please", "thank you")
_FIELD = re.compile(r"\{(\w+)\}")


def _dress(rng: random.Random, template: str, typos: float) -> str:
    """The template with polite words, a typo or a capital; most rows keep it plain."""
    imperative, text = not template.startswith("~"), template.lstrip("~")
    if rng.random() < typos:
        text = noise.add_typo(rng, text)
    roll = rng.random()
    if roll < 0.35:
        ask = rng.choice(_ASKS)
        if imperative or ask in ("hey", "okay"):
            text = f"{ask} {text}"
    elif roll < 0.45 and not text.endswith("{text}"):
        # An open text is answered to its last word, so nothing polite may follow it.
        text = f"{text} {rng.choice(_ENDS)}"
    # A slot is never capitalised: its value is answered just as it is said.
    if rng.random() < 0.2 and text[0] != "{":
        text = text[0].upper() + text[1:]
    if rng.random() < 0.25:
        text += rng.choice((".", ".", "!"))
    return text


def draw_row(rng: random.Random, name: str, split: str) -> tuple[dict[str, str], str]:
    """One {"prompt", "completion"} row of an intent, and the template it was made from."""
    intent = INTENTS[name]
    held_out = split == "test" and rng.random() < 0.5
    template = rng.choice(intent.test if held_out else intent.train)
    fields: dict[str, str] = {}
    values: dict[str, object] = {}
    slots = Slots(rng, test=split == "test")
    for draw in DRAWS[name]:
        said, held = draw(slots)
        fields |= said
        values |= held
    prompt = _FIELD.sub(lambda field: fields[field[1]], _dress(rng, template, _TYPOS[split]))
    answer = {"call": name} | {key: values[key] for key in intent.keys}
    return {"prompt": prompt, "completion": json.dumps(answer)}, template


def generate_splits(seed: int = SEED) -> dict[str, list[dict[str, str]]]:
    """The rows of all splits; no prompt occurs twice, in one split or across splits."""
    rng = random.Random(seed)
    names = list(INTENTS)
    weights = [INTENTS[name].weight for name in names]
    seen: set[str] = set()
    answers: set[str] = set()
    splits: dict[str, list[dict[str, str]]] = {}
    for split, size in SIZES.items():
        rows: list[dict[str, str]] = []
        shared = 0
        while len(rows) < size:
            row, _ = draw_row(rng, rng.choices(names, weights)[0], split)
            folded = row["prompt"].lower().rstrip(".!")
            if folded in seen:
                continue
            if split == "test" and row["completion"] in answers:
                if shared >= size * _SHARED_ANSWERS:
                    continue
                shared += 1
            seen.add(folded)
            rows.append(row)
        if split != "test":
            answers |= {row["completion"] for row in rows}
        splits[split] = rows
    return splits


def encode_rows(rows: list[dict[str, str]]) -> bytes:
    """The bytes of a JSON-lines file."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def main() -> None:
    """Command line: write the three files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for split, rows in generate_splits(args.seed).items():
        (args.out / f"{split}.jsonl").write_bytes(encode_rows(rows))


if __name__ == "__main__":
    main()
