"""The ONNX parts of quality_per_byte.py: the builder's own int4, and one plan in two runtimes."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
from quality import Judge, make_files, ratio, size

from edgetune.export.gguf.converter import GgufHeader
from edgetune.export.gguf.f32 import convert_gguf
from edgetune.export.gguf.write import Quantization, write_gguf
from edgetune.export.onnx.build import write_weights
from edgetune.export.onnx.folder import data_name, finish_folder, graph_name, write_graph
from edgetune.export.onnx.frame import open_frame
from edgetune.quantize.plan import ONNX_SETTINGS
from edgetune.runtimes import open_runtime
from edgetune.runtimes.genai_folder import find_graph
from edgetune.runtimes.gguf_header import open_gguf

#: Of the builder's int4 for the CPU; the first is what it does unasked.
BUILDER: dict[str, list[str]] = {
    "default": [],
    "k_quant": ["algo_config=k_quant"],
    "k_quant_mixed": ["algo_config=k_quant_mixed"],
    "block 128": ["block_size=128"],
    "accuracy 1": ["accuracy_level=1"],
    "table too": ["op_types_to_quantize=MatMul/Gather"],
    "head 8 bits": ["matmul_mixed_precision=last_matmul:int8"],
}
#: Types in which a matrix takes no longer than in Q4_0 on an EPYC (bench/onnx_types.py; on a Xeon
#: with VNNI int8_g128 takes a quarter longer); the builder's fastest setting has int4_g128 alone.
FAST = ("int8_g128", "uint4_g128", "int4_g128")
OPENINGS, TURNS = 12, 8  # a session keeps the luck of its opening, so speed is taken of several
TOKENS = 128  # that a request decodes


def measure_onnx(args: argparse.Namespace, judge: Judge, folder: Path) -> dict[str, Any]:
    """Return the figures of ONNX folders."""
    built, refused = {}, {}
    for name, options in BUILDER.items():
        try:
            built[name] = _build(judge.base, folder / "builder" / name, options)
            open_runtime(built[name]).close()
        except Exception as error:  # the builder raises every kind, and not all it writes loads
            built.pop(name, None)
            fault = f"{type(error).__name__}: {error}".replace(f"{folder}/", "")
            refused[name] = fault[:200]
    folders = {f"builder: {n}": path for n, path in built.items()}
    row: dict[str, Any] = {"refused": refused}
    folders["int4"] = make_files(args, folder / "int4", onnx=["int4"])["files"]["int4.onnx"]
    for mark, setting, types in (
        ("", "default", ()), (", fast", "default", FAST), (", fast and small", "block 128", FAST),
    ):  # fmt: skip
        budget = [f"onnx:bytes={size(built[setting])}"]
        made, facts = _make_own(args, folder / f"own{mark}", budget=budget, types=types)
        folders |= {f"{name}{mark}": path for name, path in made.items()}
        row |= {f"{name}{mark}": fact for name, fact in facts.items()}
    folders["int4, accuracy 1"] = _with_accuracy(folders["int4"], folder / "accuracy", 1)
    sums = {name: judge.divergences(path) for name, path in folders.items()}
    cores = len(os.sched_getaffinity(0))
    rates = {n: _speeds(folders, judge.encoded[0].ids[:16], n) for n in sorted({1, cores})}
    total = sum(judge.lengths)
    row["folders"] = {
        name: {
            "bytes": size(path),
            "kl": sum(sums[name]) / total,
            "tokens_per_s": round(median(rates[cores][name]), 1),
            "tokens_per_s_one_thread": round(median(rates[1][name]), 1),
        }
        for name, path in folders.items()
    }
    for name in folders:
        if name.startswith(("searched", "trained")):
            row[f"{name}_against_builder"] = ratio(sums[name], sums["builder: default"])
    for name, figure in (("searched", "kl_ratio_onnx"), ("trained", "kl_ratio_onnx_qat")):
        if name in folders:
            row[figure] = row[f"{name}_against_builder"]["ratio"]
    row["speed_over_builders_best"] = _against_best(rates[cores])
    row["speed_over_builders_best_one_thread"] = _against_best(rates[1])
    return row


def measure_runtimes(args: argparse.Namespace, judge: Judge, folder: Path) -> dict[str, Any]:
    """Return the KL from llama.cpp to ONNX Runtime, both with the same blocks in them."""
    frame = open_frame(judge.base, folder / "scratch")
    convert_gguf(judge.base, folder / "F32.gguf", GgufHeader("plan"))
    source = open_gguf(folder / "F32.gguf")
    judges = {"answers": Judge(args, folder, answers=True), "every position": judge}
    found: dict[str, Any] = {}
    for precision, kind in (("int8", "Q8_0"), ("int4", "Q4_0")):
        settings = ONNX_SETTINGS[precision]
        # What the ONNX settings say: the head, which is the embedding where they are tied, in 8
        # bits.
        wide = {"token_embd.weight", "output.weight"}
        types = {
            name: settings["head"] if name in wide else kind if len(tensor.shape) > 1 else "F32"
            for name, tensor in source.tensors.items()
        }
        write_gguf(source, folder / f"{kind}.gguf", Quantization(kind, types))
        write_weights(frame, folder / precision, settings, {})
        for what, one in judges.items():
            path = folder / "kept.npy"
            reference = one.kept(open_runtime(folder / f"{kind}.gguf"), path)
            sums = one.divergences(folder / precision, reference)
            found[f"{kind}, {what}"] = sum(sums) / sum(one.lengths)
    return {"runtimes": found, "runtime_kl": max(v for k, v in found.items() if "answers" in k)}


def _make_own(
    args: argparse.Namespace, folder: Path, **settings: Any
) -> tuple[dict[str, Path], dict[str, Any]]:
    """Write the folder of a search and of QAT at its budget; return both and their facts."""
    made = make_files(args, folder / "searched", **settings)
    ((name, path),) = made["files"].items()
    folders, facts = {"searched": path}, {"search_s": made["seconds"]}
    if args.steps:
        trained = make_files(args, folder / "trained", method="qat", **settings)
        folders["trained"] = trained["files"][name]
        facts |= {"train_s": trained["seconds"], "trained": trained["facts"]["requantized"]}
    return folders, facts


def _build(model: Path, target: Path, options: list[str]) -> Path:
    """Write the folder that onnxruntime-genai's builder makes with these options."""
    from onnxruntime_genai.models import builder

    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        wanted = ["hf_token=false", *options]
        given = (None, str(model), str(target), "int4", "cpu", str(target.parent / "scratch"))
        builder.create_model(*given, **builder.parse_extra_options(*given, wanted))
    built = onnx.load(target / "model.onnx", load_external_data=False)
    graph = target / graph_name("q4")
    graph.parent.mkdir()
    (target / "model.onnx.data").rename(graph.with_name(data_name(graph)))
    (target / "model.onnx").unlink()
    for tensor in built.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = data_name(graph)
    write_graph(built, graph)
    finish_folder(model, target, "q4")
    return target


def _with_accuracy(source: Path, target: Path, level: int) -> Path:
    """Copy an ONNX folder with another accuracy_level: 4 rounds activations to int8, 1 does not."""
    shutil.copytree(source, target)
    graph = find_graph(target)
    model = onnx.load(graph, load_external_data=False)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = level
    write_graph(model, graph)
    return target


def _speeds(folders: dict[str, Path], prompt: list[int], threads: int) -> dict[str, list[float]]:
    """Return the tokens/s of each one's requests, which take turns in an order drawn anew."""
    random = np.random.default_rng(0)
    rates: dict[str, list[float]] = {name: [] for name in folders}
    for _ in range(OPENINGS):
        runtimes = {name: open_runtime(path, threads) for name, path in folders.items()}
        for turn in range(TURNS + 1):
            for name in random.permutation(list(runtimes)):
                stream = iter(runtimes[name].stream(prompt, TOKENS))
                next(stream)
                began = time.perf_counter()
                count = sum(1 for _ in stream)
                if turn:
                    rates[name].append(count / (time.perf_counter() - began))
        for runtime in runtimes.values():
            runtime.close()
    return rates


def _against_best(rates: dict[str, list[float]]) -> dict[str, Any]:
    """Return each folder's speed over that of the builder's fastest setting, turn by turn.

    The fastest is chosen on every other opening and compared on the rest: the best of several
    noisy medians, judged by the same noise, would look faster than it is.
    """
    chosen, judged = (
        {name: np.array(each).reshape(OPENINGS, TURNS)[part::2] for name, each in rates.items()}
        for part in (0, 1)
    )
    theirs = [name for name in rates if name.startswith("builder")]
    best = max(theirs, key=lambda name: float(np.median(chosen[name])))
    random = np.random.default_rng(0)
    found: dict[str, Any] = {"best": best}
    for name in rates:
        ratios = (judged[name] / judged[best]).ravel()
        drawn = np.median(random.choice(ratios, (2000, ratios.size)), -1)
        interval = [round(float(end), 3) for end in np.percentile(drawn, [2.5, 97.5])]
        found[name] = {"ratio": round(float(np.median(ratios)), 3), "ci95": interval}
    return found
