"""Every file that this house writes passes against the model it was made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgetune.export.onnx.build import write_weights
from edgetune.export.onnx.frame import Frame, open_frame
from edgetune.runtimes.genai_folder import find_graph
from tests.diagnose.injected_faults import Chain, make_chain
from tests.diagnose.test_injected_faults import verify

_BLOCKS = {"head": "Q8_0", "embedding": "Q8_0", "accuracy_level": 4}
SETTINGS = {
    "fp16": {"weights": "F16"},
    "int8": {"weights": "Q8_0", **_BLOCKS},
    "int4": {"weights": "Q4_0", **_BLOCKS},
}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return make_chain("llama", tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="module")
def graph(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Frame:
    return open_frame(chain.merged, tmp_path_factory.mktemp("onnx"))


@pytest.mark.parametrize("precision", SETTINGS)
def test_onnx_folders_of_our_own_pass(
    precision: str, chain: Chain, graph: Frame, tmp_path: Path
) -> None:
    write_weights(graph, tmp_path / "x", SETTINGS[precision], {})
    found = verify(str(chain.merged), str(tmp_path / "x"))
    assert found.ok, found.to_json()
    assert found.candidate["scheme"] == precision
    assert not found.notes


def test_a_narrow_table_is_still_compared(chain: Chain, graph: Frame, tmp_path: Path) -> None:
    write_weights(graph, tmp_path / "x", SETTINGS["fp16"], {})
    model = onnx.load(find_graph(tmp_path / "x"))
    table = next(one for one in model.graph.initializer if one.name.startswith("cos_cache"))
    values = numpy_helper.to_array(table)
    table.CopyFrom(numpy_helper.from_array((values * np.float16(0.9)), table.name))
    onnx.save(model, find_graph(tmp_path / "x"))
    found = verify(str(chain.merged), str(tmp_path / "x"))
    assert not found.ok
    assert "cos_cache" in found.faults[0].where
