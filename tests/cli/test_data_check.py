"""`edgetune data check` shows what is in the data, as text, and of confidential rows nothing."""

from __future__ import annotations

import html
import json
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgetune.cli import cli
from edgetune.errors import InputError

HOSTILE = "<script>alert(1)</script>"
MAIL = "anna.smith@example.org"


def ask(number: int) -> str:
    letters = random.Random(number).choices("abcdefghijklmnopqrstuvwxyz", k=40)
    return f"{number} {''.join(letters)}"


@pytest.fixture
def recipe(tiny_model: Path, tmp_path: Path) -> Path:
    """Forty rows of two labels, with a duplicate, a near duplicate, a leak and a mail address."""
    rows = [{"text": ask(n), "label": "even" if n % 2 == 0 else "odd"} for n in range(36)]
    rows += [rows[0], {"text": ask(1) + "!", "label": "odd"}]
    rows += [{"text": f"{HOSTILE} {ask(50)} {MAIL}", "label": HOSTILE}] * 2
    test = [{"text": ask(n), "label": "odd"} for n in (3, 101, 103)]
    for name, some in (("train", rows), ("test", test)):
        text = "".join(json.dumps(row) + "\n" for row in some)
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"name: checked\nmodel: {{path: {tiny_model}}}\n"
        f"data:\n  train: [{{path: {tmp_path / 'train.jsonl'}, license: CC0-1.0}}]\n"
        f"  test: {tmp_path / 'test.jsonl'}\n  validation: {tmp_path / 'test.jsonl'}\n"
        "  max_length: 256\n",
        encoding="utf-8",
    )
    return path


def run_check(recipe: Path, *more: str) -> tuple[dict[str, Any], str]:
    out = recipe.parent / "check.html"
    arguments = ["data", "check", "--recipe", str(recipe), "--out", str(out), "--json", *more]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    return json.loads(result.stdout.splitlines()[-1]), out.read_text(encoding="utf-8")


def test_shows_what_is_in_the_rows(recipe: Path) -> None:
    found, page = run_check(recipe)
    facts = found["facts"]
    assert facts["rows"] == {"train": 40, "validation": 3, "test": 3}
    assert facts["found"]["pii"] == {"email": {"reported": 2}}
    assert facts["similar"]["duplicates"] == {"rows": 2}
    assert found["labels"]["distinct"] == 3
    assert {one["text"]: one["rows"] for one in found["labels"]["top"]}["even"] == 19
    assert sum(found["lengths"]["train"]["counts"]) == 40
    assert found["roles"]["counts"]["user"]["turns"] == 40
    near = found["pairs"]["near_duplicates"]
    assert [re.findall(r"\d+$", where)[0] for where in near[0]["where"]] == ["2", "38"]
    assert 0.8 <= near[0]["jaccard"] < 1
    leaks = found["pairs"]["leaks"]
    assert {one["split"] for one in leaks} == {"validation", "test"}
    assert leaks[0]["jaccard"] == 1 and leaks[0]["texts"][0] == leaks[0]["texts"][1]
    assert "CC0-1.0" in page and page.count("<svg") == page.count("Numbers of this figure") == 3


def test_text_cannot_write_markup_and_personal_data_is_not_shown(recipe: Path) -> None:
    found, page = run_check(recipe, "--set", "data.clean.duplicates=fix")
    assert html.escape(HOSTILE) in page and HOSTILE not in page
    assert not re.search(r"<script|<link|\bsrc=|\bhref=|https?:", page)
    assert "default-src 'none'" in page
    assert MAIL not in page and MAIL not in json.dumps(found)
    assert any("<EMAIL_1>" in (one["row"] or "") for one in found["dropped"])
    assert {one["step"] for one in found["dropped"]} == {"duplicates"}


def test_confidential_rows_are_not_shown(recipe: Path) -> None:
    text = recipe.read_text(encoding="utf-8").replace("CC0-1.0", "own, confidential: true")
    recipe.write_text(text, encoding="utf-8")
    found, page = run_check(recipe, "--set", "data.clean.duplicates=fix")
    assert found["confidential"] and "A source is confidential" in page
    words = json.dumps(found) + page
    assert not [n for n in range(36) if ask(n).split()[1] in words]
    assert "alert(1)" not in words
    assert found["labels"]["distinct"] == 3 and found["pairs"]["leaks"]


def test_a_finished_dataset_is_checked_alike(recipe: Path) -> None:
    dataset = recipe.parent / "dataset"
    arguments = ["prepare", "--recipe", str(recipe), "--out", str(dataset)]
    made = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert made.exit_code == 0, made.output
    out = recipe.parent / "other.html"
    arguments = ["data", "check", "--dataset", str(dataset), "--out", str(out), "--json"]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    found = json.loads(result.stdout.splitlines()[-1])
    prepared, _ = run_check(recipe)
    del found["facts"]["encoder"], prepared["facts"]["encoder"]
    assert found == prepared


@pytest.mark.parametrize("confidential", ["", ", confidential: true"])
def test_suspicious_labels_are_listed(tiny_model: Path, tmp_path: Path, confidential: str) -> None:
    colours = {"warm": "red orange scarlet amber", "cold": "blue navy azure teal"}
    rows = [
        {"text": f"paint the {one} wall number {n} {one} again", "label": label}
        for label, names in colours.items()
        for one in names.split()
        for n in range(10)
    ]
    rows[5]["label"] = "cold"
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"name: checked\nmodel: {{path: {tiny_model}}}\n"
        f"data:\n  train: [{{path: {tmp_path / 'rows.jsonl'}{confidential}}}]\n",
        encoding="utf-8",
    )
    found, page = run_check(recipe)
    first = found["suspicious_labels"][0]
    assert first["where"].endswith("rows.jsonl:6") and first["where"] in page
    words = None if confidential else "cold", None if confidential else "warm"
    assert (first["label"], first["predicted"]) == words


def test_needs_something_to_check(tmp_path: Path) -> None:
    for arguments, said in (
        ([], "nothing to check"),
        (["--dataset", str(tmp_path)], "no dataset"),
        (["--dataset", str(tmp_path), "--data", "a.jsonl"], "prepared already"),
    ):
        with pytest.raises(InputError, match=said):
            CliRunner().invoke(cli, ["data", "check", *arguments], catch_exceptions=False)


@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 1200])
def test_nothing_overflows(recipe: Path, tmp_path: Path, width: int) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium here: apt-get install chromium")
    _, checked = run_check(recipe)
    frame = (
        f'<iframe id="f" style="border:0;width:{width}px;height:900px" '
        f'srcdoc="{html.escape(checked)}"></iframe>'
        "<script>window.onload = () => {const d = document.getElementById('f').contentDocument;"
        "document.body.innerHTML = '<p id=found>' + (d.documentElement.scrollWidth - "
        "d.documentElement.clientWidth) + ' ' + d.querySelectorAll('td').length + '</p>';};"
        "</script>"
    )
    page = tmp_path / "frame.html"
    page.write_text(f"<!doctype html><body>{frame}</body>", encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --dump-dom "
    flags += "--disable-background-networking --disable-component-update --disable-sync"
    command = [chromium, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", str(page)]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r'id="found">(\d+) (\d+)<', dom)
    assert found, dom[-500:]
    assert int(found[1]) == 0 and int(found[2]) > 40
