"""Memory that training frees goes back to the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FREE_BLOCKS = """\
import sys, psutil, torch
from edgetune.models.hardware import TRAINING_BLOCK_BYTES, trim_malloc
if sys.argv[1] == "held":
    trim_malloc(TRAINING_BLOCK_BYTES)
first = torch.empty(20 << 20, dtype=torch.uint8)
del first  # malloc takes blocks of this size from its heap from now on, unless it is held
blocks, kept = [], []
for _ in range(30):
    blocks.append(torch.ones(8 << 20, dtype=torch.uint8))
    kept.append(torch.ones(64 << 10, dtype=torch.uint8))
before = psutil.Process().memory_info().rss
del blocks
print(before - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc is what is set")
def test_freed_activations_leave_no_holes() -> None:
    def freed(mode: str) -> int:
        command = [sys.executable, "-c", FREE_BLOCKS, mode]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return int(done.stdout)

    assert freed("held") > 200 << 20
    assert freed("by itself") < 100 << 20
