"""Tensors are read ahead of their turn where two of them fit, and handed out unchanged."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from edgetune.errors import InputError
from edgetune.export.gguf.read_ahead import MOST_VALUES, ReadAhead
from edgetune.runtimes.gguf_header import GgufFile, GgufTensor


class Source(GgufFile):
    """Tensors of one value, whatever their shape says; notes which were read and by whom."""

    def __init__(self, shapes: dict[str, int]) -> None:
        tensors = {name: GgufTensor((size,), "F32", 0, 0) for name, size in shapes.items()}
        super().__init__(Path("none"), {}, {}, tensors)
        object.__setattr__(self, "begun", {name: threading.Event() for name in shapes})
        object.__setattr__(self, "readers", {})

    def read(self, name: str) -> np.ndarray:
        self.readers[name] = threading.current_thread()  # type: ignore[attr-defined]
        self.begun[name].set()  # type: ignore[attr-defined]
        if name == "broken":
            raise InputError("cannot be read", where=name)
        return np.full(1, ord(name[0]), np.float32)


def test_the_next_is_read_while_one_is_in_use() -> None:
    source = Source({"a": 3, "b": 3, "c": 3})
    with ReadAhead(source, source.tensors) as ahead:
        for name, coming in (("a", "b"), ("b", "c")):
            assert ahead.read(name)[0] == ord(name)
            assert source.begun[coming].wait(timeout=60)  # type: ignore[attr-defined]
        assert ahead.read("c")[0] == ord("c")


def test_large_tensors_are_read_alone() -> None:
    source = Source({"a": 3, "large": MOST_VALUES + 1, "b": 3, "c": MOST_VALUES})
    with ReadAhead(source, source.tensors) as ahead:
        for name in source.tensors:
            ahead.read(name)
    here = threading.current_thread()
    alone = [name for name, one in source.readers.items() if one is here]  # type: ignore[attr-defined]
    assert alone == ["a", "large", "b"]


def test_an_error_comes_at_its_tensor_s_turn() -> None:
    source = Source({"a": 3, "broken": 3})
    with ReadAhead(source, source.tensors) as ahead:
        assert ahead.read("a")[0] == ord("a")
        with pytest.raises(InputError, match="cannot be read"):
            ahead.read("broken")


def test_a_tensor_out_of_turn_is_refused() -> None:
    source = Source({"a": 3, "b": 3})
    with (
        ReadAhead(source, ["a", "b"]) as ahead,
        pytest.raises(ValueError, match="next tensor is a"),
    ):
        ahead.read("b")
