"""A twin of each family: tuned, merged and exported, every link is the model before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetune.compare.checks import Question
from edgetune.compare.model_spec import resolve_spec
from edgetune.diagnose.verify import verify_pair
from edgetune.export.onnx.build import build_graph, check_onnx_support
from edgetune.log import Log
from tests.diagnose.injected_faults import make_chain
from tests.tiny_models import FAMILIES

QUICK = ("mistral", "qwen3", "gemma3", "gpt2")


@pytest.mark.parametrize(
    "family", [pytest.param(f, marks=[] if f in QUICK else [pytest.mark.slow]) for f in FAMILIES]
)
def test_every_link_holds(family: str, tmp_path: Path) -> None:
    chain = make_chain(family, tmp_path)
    links = [(chain.trained, chain.merged), (chain.merged, chain.plain), (chain.plain, chain.small)]
    if not check_onnx_support(chain.merged):
        build_graph(chain.merged, tmp_path / "onnx", tmp_path / "scratch")
        links.append((chain.merged, tmp_path / "onnx"))
    for before, after in links:
        found = verify_pair(
            resolve_spec(str(before)), resolve_spec(str(after)), Question((), 256),
            Log(None, quiet=True),
        )  # fmt: skip
        assert found.ok, (before, after, found.to_json())
