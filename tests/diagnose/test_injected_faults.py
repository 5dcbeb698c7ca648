"""Every planted fault is named rightly, and a right chain raises no alarm."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetune.compare.checks import Question
from edgetune.compare.comparison import Comparison
from edgetune.compare.model_spec import resolve_spec
from edgetune.diagnose.verify import verify_pair
from edgetune.log import Log
from tests.diagnose.injected_faults import FAULTS, Chain, make_chain

QUICK = "llama"
FAMILIES = ("qwen2", "phi3", "gemma2", "granite")


def verify(a: str, b: str) -> Comparison:
    question = Question((), 512)
    return verify_pair(resolve_spec(a), resolve_spec(b), question, Log(None, quiet=True))


@pytest.fixture(scope="session")
def chains(tmp_path_factory: pytest.TempPathFactory):
    made: dict[str, Chain] = {}

    def chain(family: str) -> Chain:
        if family not in made:
            made[family] = make_chain(family, tmp_path_factory.mktemp(family))
        return made[family]

    return chain


CASES = [
    pytest.param(family, fault, marks=[] if family == QUICK else [pytest.mark.slow])
    for family in (QUICK, *FAMILIES)
    for fault in FAULTS
]


@pytest.mark.parametrize(
    "family",
    [pytest.param(f, marks=[] if f == QUICK else [pytest.mark.slow]) for f in (QUICK, *FAMILIES)],
)
def test_right_chain_raises_no_alarm(family: str, chains) -> None:
    chain = chains(family)
    for before, after in (
        (chain.trained, chain.merged),
        (chain.merged, chain.plain),
        (chain.merged, chain.small),
        (chain.plain, chain.small),
        (chain.trained, chain.small),
    ):
        found = verify(str(before), str(after))
        assert found.ok, (before, after, found.to_json())


@pytest.mark.parametrize(("family", "fault"), CASES)
def test_planted_fault_is_named(family: str, fault, chains, tmp_path: Path) -> None:
    planted = fault(chains(family), tmp_path)
    if planted is None:
        pytest.skip(f"{family} has nothing to spoil there")
    before, after, kind, name = planted
    found = verify(before, after)
    assert not found.ok, "missed"
    assert found.failing_check == kind, found.to_json()
    first = next(fault for fault in found.faults if fault.kind == kind)
    assert first.name == name, found.to_json()
