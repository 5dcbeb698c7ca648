"""What is taken is measured over child processes too."""

from __future__ import annotations

import subprocess
import sys

from edgetune.measure.usage import UsageMeter

HELD = 200_000_000
HOLD = f"held = b'x' * {HELD}; import time; time.sleep(1.5)"


def test_memory_of_this_process_counts() -> None:
    with UsageMeter() as empty:
        pass
    with UsageMeter() as meter:
        held = bytearray(b"x") * HELD
    assert len(held) == HELD
    assert 0.9 * HELD < meter.usage.ram_bytes - empty.usage.ram_bytes < 1.5 * HELD


def test_memory_and_time_of_a_child_process_count() -> None:
    with UsageMeter() as empty:
        pass
    with UsageMeter() as meter:
        subprocess.run([sys.executable, "-c", HOLD], check=True)
    assert meter.usage.ram_bytes - empty.usage.ram_bytes > 0.9 * HELD
    assert meter.usage.seconds > 1.5
