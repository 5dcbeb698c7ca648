"""Score a model folder on the device test rows: greedy decoding, exact match of the whole answer.

python -m tools.embedded.score edgetune/embedded/base --shots 4
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tools.embedded.lookup import read_rows

SEED = 11


def build_prompt(row: dict[str, str], shots: list[dict[str, str]]) -> str:
    """The ChatML text up to where the answer begins, after the shots as earlier turns."""
    text = ""
    for shot in shots:
        text += f"<|im_start|>user\n{shot['prompt']}<|im_end|>\n"
        text += f"<|im_start|>assistant\n{shot['completion']}<|im_end|>\n"
    return text + f"<|im_start|>user\n{row['prompt']}<|im_end|>\n<|im_start|>assistant\n"


@torch.no_grad()
def answer_prompts(model: Any, tokenizer: Any, prompts: list[str], batch: int = 50) -> list[str]:
    """The greedy answer to each prompt, up to <|im_end|> and at most 64 tokens."""
    tokenizer.padding_side = "left"
    answers = []
    for at in range(0, len(prompts), batch):
        inputs = tokenizer(prompts[at : at + batch], return_tensors="pt", padding=True)
        inputs.pop("token_type_ids", None)
        out = model.generate(**inputs, max_new_tokens=64, do_sample=False)
        texts = out[:, inputs["input_ids"].shape[1] :]
        answers += tokenizer.batch_decode(texts, skip_special_tokens=True)
    return answers


def score_model(folder: Path, rows: int, shot_count: int) -> dict[str, object]:
    """Exact-match share over the first `rows` test rows, and some wrong answers."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    rng, train, test = random.Random(SEED), read_rows("train"), read_rows("test")[:rows]
    prompts = [build_prompt(row, rng.sample(train, shot_count)) for row in test]
    answers = answer_prompts(model, tokenizer, prompts)
    wrong = [
        {"prompt": row["prompt"], "expected": row["completion"], "answer": answer}
        for row, answer in zip(test, answers, strict=True)
        if answer != row["completion"]
    ]
    score = 1 - len(wrong) / len(test)
    return {"exact_match": score, "rows": len(test), "shots": shot_count, "wrong": wrong[:5]}


def main() -> None:
    """Command line: one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--shots", type=int, default=0)
    args = parser.parse_args()
    sys.stdout.write(json.dumps(score_model(args.folder, args.rows, args.shots)) + "\n")


if __name__ == "__main__":
    main()
