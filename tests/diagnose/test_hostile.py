"""Files from anyone: each broken one gets an error that names the place, and nothing is run."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from edgetune.errors import InputError
from edgetune.models.resolve import check_safetensors, read_json
from edgetune.runtimes.gguf_header import check_gguf, open_gguf
from edgetune.runtimes.isolated import Isolated
from edgetune.runtimes.onnx_header import open_onnx


def gguf_bytes(
    pairs: bytes = b"", count: int = 0, tensors: bytes = b"", number: int = 0, data: bytes = b""
) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", 3, number, count) + pairs + tensors
    return head + bytes(-len(head) % 32) + data


def name(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def tensor(text: bytes, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    layout = f"<I{len(shape)}QIQ"
    return name(text) + struct.pack(layout, len(shape), *shape, kind, offset)


PAIR = name(b"a.key") + struct.pack("<II", 4, 7)
BROKEN_GGUF = {
    "begin with the letters": b"GGML" + bytes(64),
    "version 77": b"GGUF" + struct.pack("<IQQ", 77, 0, 0) + bytes(32),
    "ends inside its header, at byte 4": b"GGUF" + bytes(7),
    "metadata pair 0 of 9223372036854775807 bytes runs past the end": gguf_bytes(
        struct.pack("<Q", (1 << 63) - 1), 1
    ),
    "'a.key' occurs a second time at byte 45": gguf_bytes(PAIR + PAIR, 2),
    "unknown type 99": gguf_bytes(name(b"k") + struct.pack("<I", 99), 1),
    "a metadata array of 4611686018427387904 bytes": gguf_bytes(
        name(b"k") + struct.pack("<IIQ", 9, 4, 1 << 60), 1
    ),
    "metadata of the unknown type 9": gguf_bytes(name(b"k") + struct.pack("<IIQ", 9, 9, 1), 1),
    "has 9 dimensions": gguf_bytes(tensors=tensor(b"t", (1,) * 9), number=1),
    "has the shape": gguf_bytes(tensors=tensor(b"t", (1 << 40, 1 << 40)), number=1),
    "unknown type 77": gguf_bytes(tensors=tensor(b"t", (32,), 77), number=1),
    "no multiple of its block of 256": gguf_bytes(tensors=tensor(b"t", (32,), 12), number=1),
    "no multiple of 32": gguf_bytes(tensors=tensor(b"t", (32,), 0, 4), number=1),
    "its tensors end at byte": gguf_bytes(tensors=tensor(b"t", (64,)), number=1, data=bytes(128)),
    "'t' occurs a second time": gguf_bytes(
        tensors=tensor(b"t", (8,)) + tensor(b"t", (8,)), number=2, data=bytes(64)
    ),
    "an alignment of 3": gguf_bytes(name(b"general.alignment") + struct.pack("<II", 4, 3), 1),
}


@pytest.mark.parametrize("said", BROKEN_GGUF)
def test_broken_gguf_is_named(said: str, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(BROKEN_GGUF[said])
    with pytest.raises(InputError) as caught:
        check_gguf(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_key_of_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf_bytes(name(b"\xff\xfe") + struct.pack("<II", 4, 7), 1))
    with pytest.raises(InputError, match="broken GGUF"):
        open_gguf(path)


def safetensors_bytes(header: object, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
BROKEN_SAFETENSORS = {
    "in a file of 3": b"abc",
    "a header of 4294967296 bytes": struct.pack("<Q", 1 << 32) + bytes(16),
    "unknown type 'F33'": safetensors_bytes({"a": {**ENTRY, "dtype": "F33"}}, bytes(8)),
    "of shape [3]": safetensors_bytes({"a": {**ENTRY, "shape": [3]}}, bytes(8)),
    "it should begin at 8": safetensors_bytes({"a": ENTRY, "b": ENTRY}, bytes(8)),
    "has the shape [-2]": safetensors_bytes({"a": {**ENTRY, "shape": [-2]}}, bytes(8)),
    "describes": safetensors_bytes({"a": ENTRY}, bytes(4)),
    "'a' occurs twice": safetensors_bytes(
        b'{"a": %b, "a": %b}' % ((json.dumps(ENTRY).encode(),) * 2), bytes(8)
    ),
    "no JSON object": safetensors_bytes([1]),
    "recursion": safetensors_bytes(b"[" * 200_000),
}


@pytest.mark.parametrize("said", BROKEN_SAFETENSORS)
def test_broken_safetensors_is_named(said: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(BROKEN_SAFETENSORS[said])
    with pytest.raises(InputError) as caught:
        check_safetensors(path)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [('{"a": 1, "a": 2}', "twice"), ("[" * 100_000, "recursion"), ('{"a": 1', "char 7")],
)
def test_broken_json_is_named(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_json(path, "")


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """An ONNX graph whose one weight lies in a file beside it."""
    import onnx
    from onnx import TensorProto, helper

    folder = tmp_path / "model"
    folder.mkdir()
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 2])
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("offset", "0"), ("length", "16")):
        weight.external_data.add(key=key, value=value)
    (folder / "w.bin").write_bytes(np.ones(4, np.float32).tobytes())
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 2]) for n in "xy")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    model = helper.make_model(helper.make_graph([node], "g", [x], [y], [weight]))
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def place(graph: Path, **entries: str) -> None:
    import onnx

    model = onnx.load(graph, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = entries.get(entry.key, entry.value)
    onnx.save(model, graph)


def test_right_graph_opens(graph: Path) -> None:
    assert len(open_onnx(graph).graph.initializer) == 1


@pytest.mark.parametrize("location", ["../w.bin", "/etc/passwd", "a/../../w.bin", "..\\w.bin", ""])
def test_weight_outside_the_folder_is_refused(location: str, graph: Path) -> None:
    place(graph, location=location)
    with pytest.raises(InputError, match="outside the model's folder"):
        open_onnx(graph)


def test_weight_behind_a_link_is_refused(graph: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(16))
    os.remove(graph.parent / "w.bin")
    (graph.parent / "w.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="a link out"):
        open_onnx(graph)


@pytest.mark.parametrize("entries", [{"offset": "8"}, {"length": "17"}, {"offset": "-8"}])
def test_weight_beyond_its_file_is_refused(entries: dict[str, str], graph: Path) -> None:
    place(graph, **entries)
    with pytest.raises(InputError, match="beyond its end"):
        open_onnx(graph)


def test_weight_in_a_nested_graph_is_found(graph: Path) -> None:
    import onnx
    from onnx import helper

    model = onnx.load(graph, load_external_data=False)
    inner = helper.make_graph([], "inner", [], [], [model.graph.initializer[0]])
    inner.initializer[0].external_data[0].value = "../../x"
    node = helper.make_node("If", ["x"], ["z"], then_branch=inner, else_branch=inner)
    model.graph.node.append(node)
    onnx.save(model, graph)
    with pytest.raises(InputError, match="outside the model's folder"):
        open_onnx(graph)


def test_truncated_graph_is_named(graph: Path) -> None:
    graph.write_bytes(graph.read_bytes()[:-9])
    with pytest.raises(InputError, match="not an ONNX model"):
        open_onnx(graph)


def test_death_of_a_runtime_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that aborts, as C++ does on a broken file, leaves this process alive."""
    import sys

    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho 'GGML_ASSERT(false) failed' >&2\nkill -ABRT $$\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf_bytes())
    with pytest.raises(InputError, match=r"SIGABRT: GGML_ASSERT\(false\) failed"):
        Isolated(path, 1)
