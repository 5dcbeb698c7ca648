"""The search problem of an ONNX graph: matrices that MatMulNBits can hold.

A file's size is that of its folder. The KL is that of rounded weights: the rounding of activations,
which a runtime may add, is not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from edgetune.errors import Unsupported
from edgetune.quantize.candidates import Candidates
from edgetune.quantize.formats.types import ONNX
from edgetune.quantize.methods.gptq import find_readers
from edgetune.quantize.search.problem import SearchProblem, SearchSettings, count_parameters
from edgetune.quantize.search.skeleton import Skeleton
from edgetune.quantize.weights import match_weights

#: The type whose nodes need most bytes around their blocks: it has zeros, and rows of every size.
WIDEST = "uint4_g32"


@dataclass(frozen=True)
class OnnxSource:
    """The model as an ONNX graph.

    Attributes:
        matrices: of the float32 graph by node name, [out, in].
        measure_overhead: (types of nodes, bytes of their blocks) to the bytes around them, and
            how many of these are no tensor's.
        importance: of a node's columns.
        wide: names of head and embedding, which keep 8 bits in ``int4``.
    """

    matrices: Mapping[str, np.ndarray]
    measure_overhead: Callable[[Mapping[str, str], Mapping[str, int]], tuple[int, int]]
    importance: Callable[[str], np.ndarray | None]
    wide: Collection[str]


def build_onnx_problem(source: OnnxSource, settings: SearchSettings) -> SearchProblem:
    """Return the search problem of an ONNX graph.

    Raises:
        Unsupported: no matrix of the graph is one of the model's, with rows of whole blocks.
    """
    whole = {
        name: matrix
        for name, matrix in source.matrices.items()
        if ONNX.fits(matrix.shape[1], WIDEST, True)
    }
    weights = match_weights(settings.model, whole, source.importance)
    if not weights:
        raise Unsupported("no matrix of the ONNX graph can be searched", where="quantize.budget")
    readers = find_readers(settings.model, weights) if settings.hessians else {}
    folder = settings.scratch / "onnx-candidates"
    candidates = Candidates(settings.model, weights, folder, ONNX, readers)
    widest = dict.fromkeys(candidates.weights, WIDEST)
    rows = {name: candidates.size(name, WIDEST) for name in widest}
    overhead, header = source.measure_overhead(widest, rows)
    stock = {
        "int8": dict.fromkeys(widest, "Q8_0"),
        "int4": {name: "Q8_0" if name in source.wide else "Q4_0" for name in widest},
    }

    @lru_cache(maxsize=64)
    def count_once(items: tuple[tuple[str, str], ...]) -> int:
        blocks = {name: candidates.size(name, kind) for name, kind in items}
        return source.measure_overhead(dict(items), blocks)[0] + sum(blocks.values())

    def count(mix: Mapping[str, str]) -> int:  # graph and offsets are named by type
        return count_once(tuple(sorted(mix.items())))

    sizes = {b.like: count(stock[b.like]) for b in settings.budgets if b.like}
    weights_count = count_parameters(settings.model)
    skeleton = Skeleton({}, overhead, weights_count, header, sizes, count)
    return SearchProblem(candidates, skeleton, stock)
