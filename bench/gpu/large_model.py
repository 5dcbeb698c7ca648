"""QLoRA of a random model of Llama 3.1 8 B's shape: tokens/s and peak memory of twenty steps.

Its weights are drawn a matrix at a time on the device and packed at once into NF4 with double
quantization, so that neither the disk nor any memory ever holds it in 16 bits. Then it is trained
by what ``edgetune tune`` calls.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from bitsandbytes.nn import Linear4bit, Params4bit
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.quantizers.auto import AutoHfQuantizer

from edgetune.data.encoded import Encoded
from edgetune.log import Log
from edgetune.models.adapters import add_adapter
from edgetune.models.load import nf4_config
from edgetune.models.resolve import resolve_model
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.recipe import TuneSection
from edgetune.train.inputs import TrainingData, TrainingRun
from edgetune.train.objectives import sft

SHAPE = {
    "vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
}  # fmt: skip
SMALL = {
    "vocab_size": 4099, "hidden_size": 128, "intermediate_size": 320, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
}  # fmt: skip
STEPS, LENGTH, BATCH = 20, 512, 4
DTYPE = torch.bfloat16


def make_packed(shape: dict[str, int], device: str) -> Any:
    """Return a random Llama whose layers are in NF4; embedding, norms and head in 16 bits."""
    config = LlamaConfig(
        **shape, max_position_embeddings=8192, rope_theta=500_000.0, tie_word_embeddings=False,
        bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    with init_empty_weights(include_buffers=False):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=DTYPE)
    torch.manual_seed(0)
    for name, module in list(model.named_modules()):
        if type(module) is torch.nn.Linear and name != "lm_head":
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, _packed_layer(module, device))
    for name, parameter in list(model.named_parameters()):
        if parameter.device.type == "meta":
            owner, _, own = name.rpartition(".")
            value = torch.ones(parameter.shape, dtype=DTYPE, device=device)
            if parameter.dim() > 1:
                value.normal_(std=0.02)
            frozen = torch.nn.Parameter(value, requires_grad=False)
            setattr(model.get_submodule(owner), own, frozen)
    for module in model.modules():
        for own, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, own, buffer.to(device))
    # What transformers says of a model that it packed itself.
    quantization = nf4_config(DTYPE)
    model.config.quantization_config = quantization
    model.hf_quantizer = AutoHfQuantizer.from_config(quantization, pre_quantized=False)
    model.quantization_method = quantization.quant_method
    model.is_quantized = model.is_loaded_in_4bit = True
    model.hf_device_map = {"": "cuda:0" if device == "cuda" else device}
    return model


def _packed_layer(empty: torch.nn.Linear, device: str) -> Linear4bit:
    layer = Linear4bit(
        empty.in_features, empty.out_features, bias=False, compute_dtype=DTYPE,
        compress_statistics=True, quant_type="nf4", device="meta",
    )  # fmt: skip
    drawn = torch.empty(empty.weight.shape, dtype=DTYPE, device=device).normal_(std=0.02)
    layer.weight = Params4bit(
        drawn, requires_grad=False, compress_statistics=True, quant_type="nf4", module=layer
    ).to(device)
    layer.support_avx512bf16_for_cpu = False  # as edgetune.models.nf4 says
    return layer


def make_rows(vocabulary: int, count: int, length: int) -> list[Encoded]:
    """Return rows of random tokens, trained on all but the first."""
    torch.manual_seed(1)
    ids = torch.randint(3, vocabulary, (count, length)).tolist()
    return [Encoded(row, [0] + [1] * (length - 1), False) for row in ids]


def peak(device: str) -> int:
    """Return the most bytes that tensors took on the device since this was asked last."""
    if device != "cuda":
        return 0
    found = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return int(found)


def main() -> None:
    """Make, train, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu", action="store_true")
    cpu = parser.parse_args().cpu
    device, shape = ("cpu", SMALL) if cpu else ("cuda", SHAPE)
    length, batch = (33, 2) if cpu else (LENGTH, BATCH)
    if cpu:
        sft.SMALL_LOGITS = 0  # the loss that a vocabulary of 128,256 gets
    began = time.perf_counter()
    model = make_packed(shape, device)
    made, packed_peak = time.perf_counter() - began, peak(device)
    held = torch.cuda.memory_allocated() if device == "cuda" else 0
    section = TuneSection(
        rank=16, dropout=0.05, learning_rate=1e-4, max_steps=STEPS, batch_size=batch,
        packing=False, gradient_checkpointing=True, eval_every=10, save_every=1000,
    )  # fmt: skip
    model = add_adapter(model, section, 0)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        log = Log(out / "log.jsonl")
        rows = make_rows(shape["vocab_size"], STEPS * batch, length)
        tokenizer = load_tokenizer(resolve_model("embedded:base"))
        run = TrainingRun("teacher", 0, out, log)
        outcome = sft.tune(model, tokenizer, TrainingData(rows), section, length, run)
        events = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    steps = [one for one in events if one["event"] == "train" and "loss" in one]
    expected = math.log(shape["vocab_size"])
    first = steps[0]["loss"]
    faults = [] if outcome.steps == STEPS else [f"{outcome.steps} steps"]
    # Random weights say little: the loss begins a little above that of an even guess.
    if not expected - 0.5 < first < expected + 2:
        faults.append(f"the loss begins at {first:.2f}, ln of the vocabulary is {expected:.2f}")
    faults += [f"loss {one['loss']} at step {one['step']}" for one in steps
               if not math.isfinite(one["loss"])]  # fmt: skip
    print(json.dumps({
        "faults": faults, "shape": shape, "trainable_parameters": trained, "steps": outcome.steps,
        "length": length, "batch_size": batch, "seconds_to_make": round(made, 1),
        "model_bytes": held, "peak_bytes_making": packed_peak, "peak_bytes_training": peak(device),
        # The first window holds the first step alone, with what is set up once.
        "tokens_per_s": steps[-1]["tokens_per_s"],
        "losses": {str(one["step"]): one["loss"] for one in steps},
    }))  # fmt: skip


if __name__ == "__main__":
    main()
