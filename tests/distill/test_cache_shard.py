"""Shards give back what was put in, whatever the widths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgetune.distill.cache_shard import Layout, Shard, pack, unpack, write_shard
from edgetune.distill.sparse_probs import cut_top_k, draw_sample

LAYOUTS = [
    Layout(400, draws=50), Layout(151_936, draws=64), Layout(32_000, draws=1),
    Layout(32_000, draws=2), Layout(300, draws=3), Layout(300, draws=255),
    Layout(32_000, k=20), Layout(7, k=20),
]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_shards_round_trip(layout: Layout, tmp_path: Path) -> None:
    torch.manual_seed(0)
    rows = []
    for number, positions in enumerate((0, 3, 17, 1, 40, 9, 0, 5, 0)):
        p = (3 * torch.randn(positions, layout.vocabulary)).softmax(-1)
        generator = torch.Generator().manual_seed(number)
        rows.append(cut_top_k(p, layout.k) if layout.k else draw_sample(p, layout.draws, generator))
    write_shard(tmp_path / "s", rows, layout)
    shard = Shard(tmp_path / "s", layout)
    assert len(shard) == len(rows)
    for number, row in enumerate(rows):
        for name in ("lengths", "ids", "counts"):
            assert np.array_equal(getattr(shard[number], name), getattr(row, name)), (number, name)


@pytest.mark.parametrize("width", [1, 5, 8, 13, 18, 31])
def test_streams(width: int) -> None:
    numbers = np.random.default_rng(0).integers(0, 2**width, 101)
    stream = pack(numbers, width)
    assert len(stream) == -(-101 * width // 8)
    for first in (0, 1, 7, 50, 100):
        assert np.array_equal(unpack(stream, first, 101 - first, width), numbers[first:])


def test_a_sure_teacher_takes_few_bytes(tmp_path: Path) -> None:
    layout = Layout(151_936, draws=64)
    p = torch.zeros(100, 151_936).index_fill_(1, torch.tensor([77]), 1.0)
    write_shard(tmp_path / "s", [draw_sample(p, 64, torch.Generator())] * 80, layout)
    assert (tmp_path / "s").stat().st_size / 8_000 < 4  # 6 + 6 + 18 bits
