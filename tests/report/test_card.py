"""The model card says what the report says, and nothing in it can be more than text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgetune.report.build import write_report
from edgetune.report.card import code, plain, render_card

from .conftest import SampleRun

HOSTILE = (
    "---\nlicense: mine",
    "a | b || c",
    "<script>alert(1)</script>",
    "![x](http://evil) [y](javascript:z) www.evil.com",
    "`code` ``more`` `",
    "# title\n- item\n1. one",
    "**bold** _under_ ~~gone~~ $math$ @someone",
    "\u202eright to left\x00\x1b[31m",
    "&lt;b&gt; &amp; \\| \\",
    "'\": {yaml: [1]} #",
)


def head_of(card: str) -> dict[str, Any]:
    _, head, body = card.split("---\n", 2)
    assert body.startswith("\n# ")
    found: dict[str, Any] = yaml.safe_load(head)
    return found


def test_says_what_ships_and_how_good_it_is(sample: SampleRun, tmp_path: Path) -> None:
    write_report(sample.report(), tmp_path)
    card = (tmp_path / "MODEL_CARD.md").read_text()
    head = head_of(card)
    assert head["license"] == "apache-2.0"
    assert head["tags"] == ["edgetune", "gguf", "onnx", "tune", "distill", "qlora"]
    assert "base_model" not in head  # not a hub id
    assert "# quickstart\n\nQ5\\_K\\_M perhaps keeps the score in 4.21" in card
    assert "| `quickstart-Q4_0.gguf` | 3,520,000 | – | 0.0031 | equal |" in card
    assert "Greedy answers over 300 test rows" in card
    assert re.search("\\| quickstart-Q4\\\\_0.gguf .*91\\.7\u202f% \\(88\\.6–94\\.8\\)", card)
    assert "| base model `embedded:base` | Apache-2.0 | `edgetune` |" in card
    assert "`, then distilled into a student (method " in card
    assert ", then merged over the dequantized base" in card
    assert "## Failed gates" not in card


def test_tells_of_synthetic_rows(sample: SampleRun) -> None:
    report = {
        **sample.report(),
        "synthetic": {"lines": ["8 of 10 rows that <m> wrote are in train."]},
    }
    card = render_card(report)
    assert "8 of 10 rows that &lt;m&gt; wrote are in train." in card
    assert "wrote" not in render_card(sample.report())


def test_tells_what_was_not_measured(sample: SampleRun, tmp_path: Path) -> None:
    report = sample.report()
    report["models"][9]["not_measured"] = [{"device": "cuda", "why": "no GPU <build>"}]
    write_report(report, tmp_path)
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert "was not measured on cuda: no GPU" in card and "<build>" not in card


def test_tells_of_the_adapter_alone(sample: SampleRun) -> None:
    adapter = {
        "name": "adapter.gguf", "path": "gguf/a-adapter.gguf", "bytes": 12_345, "sha256": "cd",
        "format": "gguf", "kl_all_tokens": 2e-9, "kl_all_tokens_to_merged": 0.0042,
    }  # fmt: skip
    other = {**adapter, "format": "onnx", "path": "onnx/adapter/adapter.onnx_adapter"}
    sample.artifacts["export"].facts["adapters"] = [adapter, other]
    card = render_card(sample.report())
    assert "`gguf/a-adapter.gguf` (12,345 bytes, SHA-256 `cd`) is the adapter alone" in card
    assert "KL to the merged model is 0.0042" in card
    assert "for ONNX Runtime over the graph of the base beside it" in card
    assert "`llama-cli -m BASE.gguf --lora gguf/a-adapter.gguf`" in card


def test_without_a_bench_there_are_no_scores(sample: SampleRun) -> None:
    del sample.artifacts["bench"]
    assert "Not measured" in render_card(sample.report())


def test_without_files_there_is_no_card(sample: SampleRun, tmp_path: Path) -> None:
    del sample.artifacts["export"]
    write_report(sample.report(), tmp_path)
    assert not (tmp_path / "MODEL_CARD.md").exists()


def test_a_failed_gate_comes_first(sample: SampleRun) -> None:
    sample.artifacts["export"].facts["gates"][0]["ok"] = False
    card = render_card(sample.report())
    assert card.index("## Failed gates") < card.index("## Files")


@pytest.mark.parametrize("name", HOSTILE)
def test_names_stay_text(sample: SampleRun, name: str) -> None:
    report = sample.report()
    report["name"] = report["headline"]["text"] = report["machine"]["processor"] = name
    report["recipe"]["tune"]["method"] = name
    for source in report["sources"]:
        source |= {"name": name, "licence": name, "said_in": name, "hub": True, "what": name}
    for file in report["files"]:
        file |= {"name": name, "path": name, "modelfile": name, "sha256": name}
    for model in report["models"]:
        model |= {"name": name, "scheme": name}
    report["lineage"][0]["weights"] = {name: name}
    card = render_card(report)
    head = head_of(card)
    line = " ".join("".join(s if s.isprintable() else " " for s in name).split())
    assert head["base_model"] == head["license_name"] == head["tags"][-1] == line
    assert head["license"] == "other"
    body = card.split("---\n", 2)[2]
    assert body.count("\n# ") == 1
    assert [line for line in body.splitlines() if line.startswith("## ")] == [
        "## Files", "## Scores", "## Use", "## How it was made", "## Lineage", "## Licences",
    ]  # fmt: skip
    for table in re.findall(r"(?:^\|.*\|\n)+", body, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", body)
    for sign in ("<", "http:", "www.", "\x1b", "\u202e"):
        assert sign not in outside
    assert not re.search(r"(?<!\\)\]\(", outside)


@pytest.mark.parametrize("text", ["a`b", "``", "`", " `x` ", "plain", "a|b"])
def test_code_ends_where_it_began(text: str) -> None:
    shown = code(text)
    match = re.fullmatch(r"(`+) ?(.*?) ?\1", shown)
    assert match and match[1] not in re.findall("`+", match[2])


def test_plain_escapes_once() -> None:
    assert plain("a_b") == "a\\_b"
    assert plain("x < 1 & y") == "x &lt; 1 &amp; y"
    assert plain("- no list").endswith("- no list") and not plain("- no list").startswith("-")
