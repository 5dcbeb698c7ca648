"""From a target to the types of an ONNX graph: as for a GGUF file, with MatMulNBits' types."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from edgetune.errors import Unsupported
from edgetune.log import Log
from edgetune.quantize.calibration.kl_meter import KLMeter
from edgetune.quantize.candidates import Candidates
from edgetune.quantize.formats.types import ONNX
from edgetune.quantize.methods.gptq import accumulate_hessians
from edgetune.quantize.search.budget import Target
from edgetune.quantize.search.device import Measure
from edgetune.quantize.search.problem import Fits, count_parameters, search_targets
from edgetune.quantize.search.sensitivity import Search
from edgetune.quantize.search.skeleton import Frame, refuse_too_small
from edgetune.quantize.weights import match_weights

#: The type whose nodes need most bytes around their blocks: it has zeros, and rows of every size.
WIDEST = "uint4_g32"


def fit_onnx_targets(
    model: Any,
    matrices: Mapping[str, np.ndarray],
    measure_overhead: Callable[[Mapping[str, str], Mapping[str, int]], tuple[int, int]],
    importance: Callable[[str], np.ndarray | None],
    wide: Collection[str],
    sequences: Sequence[Sequence[int]],
    tokens: int,
    types: Sequence[str],
    targets: Sequence[Target],
    scratch: Path,
    seed: int,
    log: Log,
    try_files: Callable[[Candidates], Measure] | None = None,
    feedback: bool = False,
) -> Fits:
    """Search the types of an ONNX graph for every target.

    A file's size is that of its folder. The KL is that of rounded weights: the rounding of
    activations, which a runtime may add, is not in it.

    Args:
        model: in torch, float32.
        matrices: of the float32 graph by node name, [out, in].
        measure_overhead: (types of nodes, bytes of their blocks) to the bytes around them, and
            how many of these are no tensor's.
        importance: of a node's columns.
        wide: names of head and embedding, which keep 8 bits in ``int4``.
        sequences: calibration text, as token ids.
        tokens: how many of them KL is measured on.
        types: what a matrix may become.
        targets: what the files have to meet.
        scratch: folder for the candidates' bytes; a killed search finds them again.
        seed: of the pairs that the estimate is checked on.
        log: where bars go.
        try_files: what runs files of the candidates' types; needed where a target is memory or
            time.
        feedback: columns make up for each other's rounding errors.

    Raises:
        GateFailed: a budget that nothing meets.
        Unsupported: no matrix of the graph is one of the model's, with rows of whole blocks.
    """
    blocky = {
        name: matrix
        for name, matrix in matrices.items()
        if ONNX.fits(matrix.shape[1], WIDEST, True)
    }
    weights = match_weights(model, blocky, importance)
    if not weights:
        raise Unsupported("no matrix of the ONNX graph can be searched", where="quantize.target")
    moments = accumulate_hessians(model, weights, sequences, log) if feedback else {}
    candidates = Candidates(model, weights, scratch / "onnx-candidates", ONNX, moments)
    widest = dict.fromkeys(candidates.weights, WIDEST)
    rows = {name: candidates.size(name, WIDEST) for name in widest}
    overhead, header = measure_overhead(widest, rows)
    stock = {
        "int8": dict.fromkeys(widest, "Q8_0"),
        "int4": {name: "Q8_0" if name in wide else "Q4_0" for name in widest},
    }

    @lru_cache(maxsize=64)
    def count_once(items: tuple[tuple[str, str], ...]) -> int:
        blocks = {name: candidates.size(name, kind) for name, kind in items}
        return measure_overhead(dict(items), blocks)[0] + sum(blocks.values())

    def count(mix: Mapping[str, str]) -> int:  # graph and offsets are named by type
        return count_once(tuple(sorted(mix.items())))

    sizes = {target.like: count(stock[target.like]) for target in targets if target.like}
    frame = Frame({}, overhead, count_parameters(model), header, sizes, count)
    refuse_too_small(targets, frame, candidates, types)
    candidates.make(types, log)
    search = Search(candidates, KLMeter(model, sequences, tokens), log)
    measure = try_files(candidates) if try_files else None
    return search_targets(search, frame, stock, targets, seed, log, measure)
