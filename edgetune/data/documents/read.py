"""One document to one text: Markdown with its headings, pages apart by form feeds."""

from __future__ import annotations

import io
import logging
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

from edgetune.data.documents.library import need
from edgetune.data.records import PACKED_FREE_BYTES, PACKED_RATIO, Record, open_bytes, open_text
from edgetune.errors import InputError, raise_machine_fault

PAGE = "\f"
_FRONT = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


def read_document(path: Path, ending: str) -> Record:
    """Return the record of a document, its text under the key ``text``, or what is wrong with it.

    Headings are Markdown's; form feeds are between a PDF's pages.

    Raises:
        InputError: a library that reads it is not installed.
    """
    where = str(path)
    for library in _LIBRARIES.get(ending, ()):
        need(library, where)
    try:
        with open_bytes(path) as file:
            if not file.read(1):
                return Record(where, None, "the file is empty", "leave it out")
        text = DOCUMENTS[ending](path)
    except InputError as error:
        return Record(error.where, None, error.what, error.hint)
    except Exception as error:  # parsers raise many unrelated kinds for files that are broken
        raise_machine_fault(error, where)
        said = f"{type(error).__name__}: {error}"[:200]
        return Record(where, None, f"not a readable {ending} file: {said}", "export it again")
    if not text.strip():
        return Record(where, None, "the document holds no text", "leave it out")
    return Record(where, {"text": text.strip()})


def _read_markdown(path: Path) -> str:
    with open_text(path) as text:
        return _FRONT.sub("", text.read().replace("\r\n", "\n"))


def _read_html(path: Path) -> str:
    import trafilatura

    with open_bytes(path) as file:
        content = file.read()
    found = trafilatura.extract(
        content, output_format="markdown", include_tables=True, include_comments=False
    )
    return found or ""


def _read_pdf(path: Path) -> str:
    import pypdf

    logging.getLogger("pypdf").setLevel(logging.ERROR)
    where = str(path)
    with open_bytes(path) as file:
        reader = pypdf.PdfReader(io.BytesIO(file.read()))
        # A PDF that is encrypted against printing and copying alone opens with an empty password.
        if reader.is_encrypted and not _opens(reader):
            raise InputError(
                "the PDF is encrypted", where=where,
                hint="write it without its password: qpdf --decrypt --password=… in.pdf out.pdf",
            )  # fmt: skip
        pages = []
        for number, page in enumerate(reader.pages, start=1):
            try:
                pages.append(page.extract_text().replace(PAGE, "\n"))
            except Exception as error:
                raise_machine_fault(error, where)
                raise InputError(
                    f"page {number} cannot be read: {type(error).__name__}: {error}", where=where,
                    hint="write the PDF again: qpdf in.pdf out.pdf",
                ) from error  # fmt: skip
    if not any(page.strip() for page in pages):
        raise InputError(
            f"the PDF's {len(pages)} pages hold no text, images of it perhaps", where=where,
            hint="recognize the text first: ocrmypdf in.pdf out.pdf",
        )  # fmt: skip
    return PAGE.join(pages)


def _opens(reader: object) -> bool:
    from pypdf.errors import DependencyError

    try:
        return bool(reader.decrypt(""))  # type: ignore[attr-defined]
    except DependencyError:
        return False


def _read_docx(path: Path) -> str:
    import mammoth
    import markdownify

    with open_bytes(path) as file:
        content = io.BytesIO(file.read())
    try:
        with zipfile.ZipFile(content) as packed:
            size = sum(part.file_size for part in packed.infolist())
    except zipfile.BadZipFile as error:
        raise InputError(
            "not a .docx file: it is encrypted, of an older Word, or broken", where=str(path),
            hint="open it and save it as .docx without a password",
        ) from error  # fmt: skip
    if size > max(PACKED_FREE_BYTES, PACKED_RATIO * content.getbuffer().nbytes):
        raise InputError(f"it unpacks to {size >> 20:,} MB: no text packs so well", where=str(path))
    content.seek(0)
    html = mammoth.convert_to_html(content).value
    return str(markdownify.markdownify(html, heading_style="ATX", strip=["img", "a"]))


#: How the files of an ending are read. ``.txt`` is read by :mod:`edgetune.data.files`.
DOCUMENTS: dict[str, Callable[[Path], str]] = {
    ".md": _read_markdown,
    ".markdown": _read_markdown,
    ".html": _read_html,
    ".htm": _read_html,
    ".pdf": _read_pdf,
    ".docx": _read_docx,
}
_LIBRARIES: dict[str, tuple[str, ...]] = {
    ".html": ("trafilatura",),
    ".htm": ("trafilatura",),
    ".pdf": ("pypdf",),
    ".docx": ("mammoth", "markdownify"),
}
