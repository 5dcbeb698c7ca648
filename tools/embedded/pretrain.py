"""Pretrain the embedded model on the CPU.

    python -m tools.embedded.pretrain --out DIR --tokens 3000000 --compile
    python -m tools.embedded.pretrain --out LATER --start DIR/model --compile

The token stream is written once as uint16 ids to DIR/tokens.bin, so that making text never slows
the training. DIR/checkpoint.pt is written every few minutes and picked up again when the command
is started a second time; DIR/pretrain.jsonl is the log and DIR/model the Hugging Face folder.
With --start, a model that is there goes on with the text of the last stretch (`corpus`).
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tools.embedded import copying, corpus, tokenizer
from tools.embedded.architecture import LAYERS, SEED, build_model, grow_model, pick_cut

LOGGER = logging.getLogger(__name__)
TOKENIZER_SEED = 7
TOKENIZER_DOCUMENTS = 60_000
CONTEXT = 256
#: Names in a prompt cannot be foreseen, so all but the answers count little in the loss.
OTHER_WEIGHT = 0.15


def write_tokens(path: Path, tokenizer_folder: Path, tokens: int, late: bool = False) -> None:
    """Write at least `tokens` uint16 ids, documents separated by <|endoftext|> (id 0)."""
    fast = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    written = 0
    stream = corpus.stream_documents(SEED + late, late)
    with path.with_suffix(".part").open("wb") as out:
        while written < tokens:
            batch = fast.encode_batch([next(stream) for _ in range(2000)])
            ids = np.concatenate([np.array([*row.ids, 0], dtype=np.uint16) for row in batch])
            out.write(ids.tobytes())
            written += len(ids)
    path.with_suffix(".part").rename(path)


def schedule_rate(step: int, done: float, peak: float, warmup: int = 100) -> float:
    """Linear warm-up by steps, times half a cosine down to 2 % of the peak at done = 1."""
    cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return peak * cosine * min(1.0, (step + 1) / warmup)


def make_optimizer(model: torch.nn.Module, peak: float) -> torch.optim.AdamW:
    """AdamW with weight decay on the matrices only."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.95), fused=True)


def export_model(model: LlamaForCausalLM, out: Path, tokenizer_folder: Path) -> None:
    """Write the complete Hugging Face folder, weights as bfloat16."""
    half: Any = copy.deepcopy(model)
    half = half.to(torch.bfloat16)
    half.generation_config = GenerationConfig(eos_token_id=2, pad_token_id=0)
    # The older name of the rotary base, for readers of transformers 4 configurations.
    half.config.rope_theta = 10000.0
    half.save_pretrained(out)
    trained = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    tokenizer.save_tokenizer(trained, out)


def mark_answers(tokens: np.ndarray, assistant: int) -> np.ndarray:
    """1.0 for each token of an assistant's content, its <|im_end|> among them; otherwise 0.0."""
    at = np.arange(len(tokens))
    opens = np.zeros(len(tokens), dtype=bool)
    opens[2:] = (tokens[:-2] == 1) & (tokens[1:-1] == assistant)
    ends = np.zeros(len(tokens), dtype=bool)
    ends[1:] = tokens[:-1] == 2
    last_open = np.maximum.accumulate(np.where(opens, at, -1))
    last_end = np.maximum.accumulate(np.where(ends, at, 0))
    return ((last_open >= last_end) & ~opens).astype(np.float32)


def compile_loss(model: LlamaForCausalLM, fuse: bool) -> Callable[..., tuple[torch.Tensor, ...]]:
    """A function of ids and answer marks, both (batch, CONTEXT), fused where asked.

    It returns the loss to train on (answers in full, other tokens by `OTHER_WEIGHT`), the mean
    loss of the answer tokens, and that of all tokens.
    """

    def score_hidden(
        hidden_BTD: torch.Tensor, ids_BT: torch.Tensor, answers_BT: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        logits_NV = model.lm_head(hidden_BTD[:, :-1]).flatten(0, 1)
        targets_N = ids_BT[:, 1:].flatten()
        losses_N = torch.nn.functional.cross_entropy(logits_NV, targets_N, reduction="none")
        answers_N = answers_BT[:, 1:].flatten()
        weights_N = OTHER_WEIGHT + (1 - OTHER_WEIGHT) * answers_N
        answer_loss = (losses_N * answers_N).sum() / answers_N.sum().clamp(min=1)
        return (losses_N * weights_N).sum() / weights_N.sum(), answer_loss, losses_N.mean()

    # Fused by inductor, a step takes 0.6 of the eager time (2,090 against 1,250 tokens/s). One
    # layer is compiled and its code serves all: the whole model takes minutes to compile.
    if fuse:
        for layer in model.model.layers:
            layer.compile()
        score_hidden = torch.compile(score_hidden)

    def compute_loss(ids_BT: torch.Tensor, answers_BT: torch.Tensor) -> tuple[torch.Tensor, ...]:
        hidden_BTD = model.model(input_ids=ids_BT, use_cache=False).last_hidden_state
        return score_hidden(hidden_BTD, ids_BT, answers_BT)

    return compute_loss


def save_state(
    args: argparse.Namespace, model: Any, optimizer: Any, step: int, seconds: float
) -> None:
    """Write the checkpoint and the model folder as they stand."""
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    state |= {"step": step, "seconds": seconds, "layers": len(model.model.layers)}
    part = args.out / "checkpoint.part"
    torch.save(state, part)
    part.rename(args.out / "checkpoint.pt")
    full = model if len(model.model.layers) == LAYERS else grow_model(model)
    export_model(full, args.out / "model", args.out / "tokenizer")


def load_state(args: argparse.Namespace) -> tuple[Any, torch.optim.Optimizer, int, float]:
    """(model, optimizer, next step, seconds spent), from the checkpoint where there is one."""
    checkpoint = args.out / "checkpoint.pt"
    if not checkpoint.exists() and args.start:
        model = LlamaForCausalLM.from_pretrained(args.start, dtype=torch.float32)
        return model, make_optimizer(model, args.rate), 0, 0.0
    if not checkpoint.exists():
        model = build_model(args.first_layers)
        folder = args.out / "tokenizer"
        fast = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
        copying.seed_copying(model, fast, SEED)
        return model, make_optimizer(model, args.rate), 0, 0.0
    state = torch.load(checkpoint, weights_only=True)
    model = build_model(state["layers"])
    model.load_state_dict(state["model"])
    optimizer = make_optimizer(model, args.rate)
    optimizer.load_state_dict(state["optimizer"])
    return model, optimizer, state["step"], state["seconds"]


def train_model(args: argparse.Namespace) -> None:
    """Run or continue the training described by the command line."""
    tokens = np.fromfile(args.out / "tokens.bin", dtype=np.uint16)
    fast = PreTrainedTokenizerFast(tokenizer_file=str(args.out / "tokenizer/tokenizer.json"))
    assistant: Any = fast.convert_tokens_to_ids("assistant")
    answers = mark_answers(tokens, assistant)
    batch, size = args.batch, args.batch * CONTEXT
    steps = args.tokens // size
    model, optimizer, start, spent = load_state(args)
    forward = compile_loss(model, args.compile)
    began, saved, losses = time.perf_counter() - spent, time.perf_counter(), []
    warmed = start if start else 0
    whole = model.model.layers
    cut = pick_cut(args.first_layers)
    with (args.out / "pretrain.jsonl").open("a") as log:
        for step in range(start, steps):
            seconds = time.perf_counter() - began
            share = seconds / (60 * args.minutes) if args.minutes else step / steps
            if share >= args.grow_at and len(model.model.layers) < LAYERS:
                model, warmed = grow_model(model), step
                whole = model.model.layers
                optimizer = make_optimizer(model, args.rate)
                forward = compile_loss(model, args.compile)
            here = slice(step * size, (step + 1) * size)
            ids_BT = torch.from_numpy(tokens[here].astype(np.int64)).view(batch, CONTEXT)
            answers_BT = torch.from_numpy(answers[here]).view(batch, CONTEXT)
            rate = schedule_rate(step - warmed, share, args.rate)
            for group in optimizer.param_groups:
                group["lr"] = rate
            # So that the model can be cut: some steps train it without most of its layers
            # (structured LayerDrop, arXiv:1909.11556, section 3.2).
            drop = len(whole) == LAYERS and random.Random(SEED + step).random() < args.cut
            model.model.layers = torch.nn.ModuleList(whole[i] for i in cut) if drop else whole
            loss, *shown = forward(ids_BT, answers_BT)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            model.model.layers = whole
            if not drop:
                losses.append([value.item() for value in shown])
            done, last = step + 1, share >= 1.0 or step + 1 == steps
            seconds = time.perf_counter() - began
            if losses and (done % 20 == 0 or last):
                row = {"step": done, "tokens": done * size, "layers": len(model.model.layers)}
                means = [round(sum(kind) / len(losses), 4) for kind in zip(*losses, strict=True)]
                row |= {"loss": means[1], "answer_loss": means[0], "lr": round(rate, 7)}
                row |= {"tokens_per_second": round(done * size / seconds)}
                log.write(json.dumps(row | {"seconds": round(seconds, 1)}) + "\n")
                log.flush()
                losses = []
            if time.perf_counter() - saved > args.save_every or last:
                save_state(args, model, optimizer, done, seconds)
                saved = time.perf_counter()
            if last:
                break


def main() -> None:
    """Command line: train the tokenizer, write the tokens, train the model; each once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="a model folder to go on from, at full depth")
    parser.add_argument("--tokens", type=int, default=3_000_000)
    parser.add_argument("--minutes", type=float, help="stop by the clock, at most --tokens")
    parser.add_argument("--first-layers", type=int, default=3, help="depth before it grows")
    parser.add_argument("--grow-at", type=float, default=0.65, help="share of the training")
    parser.add_argument(
        "--cut", type=float, default=0.0, help="share of steps with only --first-layers of them"
    )
    parser.add_argument("--batch", type=int, default=4, help="rows of 256 tokens a step")
    parser.add_argument("--rate", type=float, default=1.6e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save-every", type=float, default=240.0, help="seconds")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(args.threads)
    # The moments of rare tokens decay into denormal numbers, which the CPU handles slowly.
    torch.set_flush_denormal(True)
    args.out.mkdir(parents=True, exist_ok=True)
    folder = args.out / "tokenizer"
    if not (folder / "tokenizer.json").exists():
        if args.start:
            trained = Tokenizer.from_file(str(args.start / "tokenizer.json"))
        else:
            trained = tokenizer.train_tokenizer(TOKENIZER_DOCUMENTS, TOKENIZER_SEED)
        tokenizer.save_tokenizer(trained, folder)
    if not (args.out / "tokens.bin").exists():
        write_tokens(
            args.out / "tokens.bin", folder, args.tokens + args.tokens // 20, bool(args.start)
        )
    LOGGER.info("tokens written; training")
    train_model(args)


if __name__ == "__main__":
    main()
