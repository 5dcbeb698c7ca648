"""Targets as people write them."""

from __future__ import annotations

import pytest

from edgetune.errors import InputError
from edgetune.quantize.search.budget import Budget, parse_budget


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bytes=2.5MB", Budget("bytes", 2.5e6, None, "auto-2.5MB")),
        ("bytes=2MiB", Budget("bytes", 2 * 2**20, None, "auto-2MiB")),
        ("bytes=Q4_K_M", Budget("bytes", None, "Q4_K_M", "auto-Q4_K_M")),
        ("bits=4.5", Budget("bits", 4.5, None, "auto-4.5bpw")),
        ("kl=2e-2", Budget("kl", 0.02, None, "auto-kl2e-2")),
        ("gguf:bits=4", Budget("bits", 4, None, "auto-4bpw")),
        ("onnx:bytes=2.1MB", Budget("bytes", 2.1e6, None, "auto-2.1MB", "onnx")),
        ("onnx:bytes=int4", Budget("bytes", None, "int4", "auto-int4", "onnx")),
        ("ram=800MB", Budget("ram", 8e8, None, "auto-ram800MB")),
        ("ram=0.5 GiB", Budget("ram", 2**29, None, "auto-ram0.5GiB")),
        ("tpot=12ms", Budget("tpot", 0.012, None, "auto-tpot12ms")),
        ("tpot=900us", Budget("tpot", pytest.approx(9e-4), None, "auto-tpot900us")),
        ("onnx:ram=1GB", Budget("ram", 1e9, None, "auto-ram1GB", "onnx")),
        ("onnx:tpot=1s", Budget("tpot", 1, None, "auto-tpot1s", "onnx")),
        ("onnx:kl=0.02", Budget("kl", 0.02, None, "auto-kl0.02", "onnx")),
    ],
)
def test_is_read(text: str, found: Budget) -> None:
    assert parse_budget(text) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2.5MB", "not a budget"),
        ("byte=2.5MB", "no budget 'byte'.*bytes"),
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
        ("onnx:byte=2MB", "no budget 'byte'.*bytes"),
        ("onx:bytes=2MB", "no format 'onx'.*onnx"),
        ("onnx:bytes=Q4_K_M", "no amount of bytes"),
        ("bytes=int4", "no amount of bytes"),
    ],
)
def test_text_that_is_no_budget_is_refused(text: str, message: str | None) -> None:
    if message is None:
        assert parse_budget(text).value == 2.5
        return
    with pytest.raises(InputError, match=message):
        parse_budget(text)
