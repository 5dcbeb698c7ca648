"""Targets as people write them."""

from __future__ import annotations

import pytest

from edgetune.errors import InputError
from edgetune.quantize.search.budget import Target, parse_target


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bytes=2.5MB", Target("bytes", 2.5e6, None, "auto-2.5MB")),
        ("bytes=2MiB", Target("bytes", 2 * 2**20, None, "auto-2MiB")),
        ("bytes=Q4_K_M", Target("bytes", None, "Q4_K_M", "auto-Q4_K_M")),
        ("bits=4.5", Target("bits", 4.5, None, "auto-4.5bpw")),
        ("kl=2e-2", Target("kl", 0.02, None, "auto-kl2e-2")),
        ("gguf:bits=4", Target("bits", 4, None, "auto-4bpw")),
        ("onnx:bytes=2.1MB", Target("bytes", 2.1e6, None, "auto-2.1MB", "onnx")),
        ("onnx:bytes=int4", Target("bytes", None, "int4", "auto-int4", "onnx")),
        ("ram=800MB", Target("ram", 8e8, None, "auto-ram800MB")),
        ("ram=0.5 GiB", Target("ram", 2**29, None, "auto-ram0.5GiB")),
        ("tpot=12ms", Target("tpot", 0.012, None, "auto-tpot12ms")),
        ("tpot=900us", Target("tpot", pytest.approx(9e-4), None, "auto-tpot900us")),
        ("onnx:ram=1GB", Target("ram", 1e9, None, "auto-ram1GB", "onnx")),
        ("onnx:tpot=1s", Target("tpot", 1, None, "auto-tpot1s", "onnx")),
        ("onnx:kl=0.02", Target("kl", 0.02, None, "auto-kl0.02", "onnx")),
    ],
)
def test_is_read(text: str, found: Target) -> None:
    assert parse_target(text) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2.5MB", "not a target"),
        ("byte=2.5MB", "no target 'byte'.*bytes"),
        ("bytes=2.5", None),
        ("bytes=2.5parsec", "no amount of bytes"),
        ("bytes=Q4_K_X", "no amount of bytes"),
        ("kl=-1", "no amount of kl"),
        ("bits=0", "no amount of bits"),
        ("ram=800", "no amount of ram.*\n.*above 0 and one of B, KB, MB, GB, KiB, MiB, GiB"),
        ("ram=800Mb", "no amount of ram"),
        ("ram=Q4_K_M", "no amount of ram"),
        ("tpot=12", "no amount of tpot.*\n.*above 0 and one of ms, s, us"),
        ("tpot=12min", "no amount of tpot"),
        ("tpot=0ms", "no amount of tpot"),
        ("onnx:byte=2MB", "no target 'byte'.*bytes"),
        ("onx:bytes=2MB", "no format 'onx'.*onnx"),
        ("onnx:bytes=Q4_K_M", "no amount of bytes"),
        ("bytes=int4", "no amount of bytes"),
    ],
)
def test_what_is_none_is_refused(text: str, said: str | None) -> None:
    if said is None:
        assert parse_target(text).value == 2.5
        return
    with pytest.raises(InputError, match=said):
        parse_target(text)
