"""Documents are read as text with headings and pages; what cannot be read is a bad row."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from edgetune.data.dataset.make import load_splits
from edgetune.data.documents.read import read_document
from edgetune.data.files import read_records
from edgetune.data.parts import ending_of
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.recipe import DataSection
from tests.data.documents.make import make_docx, make_pdf

QUIET = Log(quiet=True)
HTML = (
    "<html><head><meta charset='{}'><title>Lamps</title></head><body><nav><a href='/'>Home</a>"
    "</nav><article><h1>Lamps</h1><p>" + "Größe and light of a lamp. " * 9 + "</p><h2>Dimming</h2>"
    "<p>"
    + "Turn the wheel to dim it. " * 9
    + "</p></article><footer>Imprint</footer></body></html>"
)


def read(folder: Path, name: str, content: bytes) -> Any:
    path = folder / name
    path.write_bytes(content)
    return read_document(path, ending_of(path))


@pytest.mark.parametrize("coding", ["utf-8", "windows-1252"])
def test_html_keeps_headings_and_drops_navigation(tmp_path: Path, coding: str) -> None:
    text = read(tmp_path, "a.html", HTML.format(coding).encode(coding)).value["text"]
    assert text.startswith("# Lamps\n") and "## Dimming\n" in text and "Größe" in text
    assert "Home" not in text and "Imprint" not in text


def test_markdown_is_read_without_its_front_matter(tmp_path: Path) -> None:
    record = read(tmp_path, "a.md", b"---\ntitle: x\n---\n# A\r\n\nb --- c\n")
    assert record.value == {"text": "# A\n\nb --- c"}


def test_pages_of_a_pdf_are_apart(tmp_path: Path) -> None:
    record = read(tmp_path, "a.PDF", make_pdf("First page", "", "Third page"))
    assert record.value == {"text": "First page\f\fThird page"}


def test_headings_of_a_word_file(tmp_path: Path) -> None:
    content = make_docx(("Heading1", "Lamps"), ("", "They shine."), ("Heading2", "Dimming"))
    assert read(tmp_path, "a.docx", content).value == {
        "text": "# Lamps\n\nThey shine.\n\n## Dimming"
    }


def encrypt(content: bytes) -> bytes:
    import io

    import pypdf

    writer = pypdf.PdfWriter(clone_from=io.BytesIO(content))
    writer.encrypt("secret", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "fault", "hint"),
    [
        ("a.pdf", encrypt(make_pdf("text")), "is encrypted", "qpdf --decrypt"),
        ("a.pdf", make_pdf("", ""), "2 pages hold no text", "ocrmypdf"),
        ("a.pdf", b"%PDF-1.4 cut off", "not a readable .pdf file", "export it again"),
        ("a.pdf", b"", "the file is empty", "leave it out"),
        ("a.docx", b"\xd0\xcf\x11\xe0 an encrypted one", "not a .docx file", "without a password"),
        ("a.docx", make_docx(("", "text"))[:300], "not a .docx file", "save it"),
        ("a.html", b"<html><body></body></html>", "holds no text", "leave it out"),
        ("a.md", b"caf\xe9", "byte 3 is not UTF-8", "iconv"),
        ("a.md", b" \n", "holds no text", "leave it out"),
    ],
)
def test_what_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: bytes, fault: str, hint: str
) -> None:
    record = read(tmp_path, name, content)
    assert record.value is None and fault in record.fault and hint in record.hint
    assert str(tmp_path / name) in record.where


def test_a_bad_document_stops_or_is_skipped(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    for n in range(6):
        (folder / f"{n}.md").write_text(f"# Title {n}\n\ntext {n}\n")
    (folder / "6.pdf").write_bytes(encrypt(make_pdf("text")))
    (folder / "7.docx").write_bytes(b"")
    with pytest.raises(InputError, match="the PDF is encrypted") as raised:
        load_splits(DataSection(train=str(folder)), 0, QUIET)
    assert raised.value.where.endswith("6.pdf") and "on_bad_row: skip" in raised.value.hint
    section = DataSection(train=str(folder), on_bad_row="skip", validation_fraction=0.3)
    splits = load_splits(section, 0, QUIET)
    assert len(splits.train) + len(splits.validation) == 6
    assert splits.facts["skipped"]["train"] == 2


def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "pypdf", None)
    with pytest.raises(InputError, match="needs pypdf") as raised:
        read(tmp_path, "a.pdf", make_pdf("text"))
    assert "edgetune[documents]" in raised.value.hint


def test_pages_are_paragraphs_where_nothing_is_chunked(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(make_pdf("One", "Two"))
    assert [record.value for record in read_records(path)] == [{"text": "One\n\nTwo"}]


def test_names_of_documents_say_nothing_of_splits(tmp_path: Path) -> None:
    for name in ("test.md", "dev/guide.md", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"about {name}\n")
    assert len(list(read_records(tmp_path))) == 3
    (tmp_path / "rows.jsonl").write_text('{"text": "row"}\n')
    assert [record.value for record in read_records(tmp_path)] == [{"text": "row"}]
    (tmp_path / "rows.jsonl").unlink()
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    texts = {str(record.value["text"]) for record in read_records(tmp_path) if record.value}
    assert {"one", "two"} < texts and "about README.md" not in texts
