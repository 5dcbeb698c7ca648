"""What is measured: models with their place in the report, and the work they are all given."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgetune.artifact import hash_file, hash_source
from edgetune.data.dataset.tables import RowTable
from edgetune.data.encode import Encoder
from edgetune.data.encoded import Encoded
from edgetune.data.rows import Row
from edgetune.data.split import choose_rows
from edgetune.errors import InputError
from edgetune.measure.variants import Variants
from edgetune.models.checkpoint import Checkpoint
from edgetune.models.ref import ModelRef
from edgetune.recipe import GGUF_SCHEMES, ONNX_SCHEMES, BenchSection, Requests
from edgetune.runtimes.gguf_header import name_scheme, open_gguf

_SIGNS = re.compile(r"[^A-Za-z0-9._-]+")  # that file names go without


@dataclass(frozen=True)
class Subject:
    """A model to measure.

    Attributes:
        name: unique; what the report calls it.
        role: ``base``, ``teacher``, ``baseline``, ``merged`` or ``file``.
        model: GGUF file, ONNX folder, or Hugging Face model.
        format: ``gguf``, ``onnx`` or ``hf``.
        scheme: ``Q4_K_M``, ``int4``, ``BF16``, ``NF4 + LoRA`` …
        bytes: what its weights take on disk; a merged adapter adds none.
        sha256: of its file or files.
        adapter: LoRA file that llama.cpp loads over a GGUF file, or none.
        stem: of its result files, where another subject has the usual one.
    """

    name: str
    role: str
    model: Path | ModelRef
    format: str
    scheme: str
    bytes: int
    sha256: str
    adapter: Path | None = None
    stem: str = ""

    @property
    def file_stem(self) -> str:
        """What its result files are called."""
        return self.stem or _SIGNS.sub("_", self.name)

    @property
    def path(self) -> Path:
        """Where it lies; for base + adapter, the adapter."""
        model = self.model
        return (model.adapter or model.base) if isinstance(model, ModelRef) else model


def name_results(subjects: Sequence[Subject]) -> list[Subject]:
    """Return the subjects with file stems of their own: "a b" and "a_b" would both be "a_b".

    A subject whose stem no other has, or is its very name, keeps it.
    """
    stems = Counter(_SIGNS.sub("_", one.name) for one in subjects)
    found = []
    for one in subjects:
        usual = _SIGNS.sub("_", one.name)
        if stems[usual] > 1 and usual != one.name:
            digest = hashlib.sha256(one.name.encode()).hexdigest()
            one = replace(one, stem=f"{usual}-{digest[:8]}")
        found.append(one)
    return found


def make_subject(model: Path | ModelRef, role: str, name: str | None = None) -> Subject:
    """Describe a model by what lies on disk.

    Raises:
        InputError: nothing there.
    """
    if isinstance(model, Path) and (model / "config.json").is_file():
        model = ModelRef(model)
    if isinstance(model, ModelRef):
        return _describe_folder(model, role, name or model.base.name)
    if not model.exists():
        raise InputError("no such model", where=str(model))
    name = name or model.name
    if model.is_file():
        scheme = _scheme_in(name, GGUF_SCHEMES)
        return Subject(name, role, model, "gguf", scheme, model.stat().st_size, hash_file(model))
    size = sum(file.stat().st_size for file in model.glob("*.onnx*"))
    scheme = _scheme_in(name, ONNX_SCHEMES)
    return Subject(name, role, model, "onnx", scheme, size, hash_source(model))


def _describe_folder(ref: ModelRef, role: str, name: str) -> Subject:
    checkpoint = Checkpoint(ref.base)
    dtypes = {header.dtype for header in checkpoint.headers.values()}
    scheme = "NF4" if ref.nf4 else "/".join(sorted(dtypes))
    files, size = checkpoint.files, checkpoint.bytes
    digest = hash_file(files[0]) if len(files) == 1 else hash_source(ref.base)
    if ref.gguf is not None:
        scheme = name_scheme(open_gguf(ref.gguf))
        size, digest = ref.gguf.stat().st_size, hash_file(ref.gguf)
    if ref.adapter is not None:
        digest = hash_source(ref.adapter)
        scheme += " + LoRA"
    return Subject(name, role, ref, "hf", scheme, size, digest)


def _scheme_in(name: str, schemes: Sequence[str]) -> str:
    """Return the longest scheme that occurs in a file's name, ``?`` if none does."""
    found = [scheme for scheme in schemes if scheme.lower() in name.lower()]
    return max(found, key=len, default="?")


@dataclass(frozen=True)
class Workload:
    """What every model is asked, the same for all.

    Attributes:
        latency_prompt: token ids of the latency requests.
        prompts: token ids of the questions.
        expected: their right answers.
        leaked: whether train has the question too, or a similar one.
        scored: rows whose trained tokens are scored.
        canaries: for each secret that train has its row, and those of others that it has not.
        encoder: turns generated ids into text, and knows what stops an answer.
        labels: token ids of each label whose likelihood is measured, by its text.
        labelled: of how many questions, the first.
        variants: rows with other words of the same place, for bench.fairness.
        scored_bytes: UTF-8 bytes of each scored row's trained text.
    """

    latency_prompt: list[int]
    prompts: list[list[int]]
    expected: list[str]
    leaked: list[bool]
    scored: list[Encoded]
    encoder: Encoder = field(repr=False)
    canaries: list[list[Encoded]] = field(default_factory=list)
    labels: dict[str, list[int]] = field(default_factory=dict)
    labelled: int = 0
    variants: list[Variants] = field(default_factory=list)
    scored_bytes: list[int] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return what a worker needs, as plain values."""
        labels = {"labels": list(self.labels.values()), "labelled": self.labelled}
        return {
            **(labels if self.labels else {}),
            "latency_prompt": self.latency_prompt,
            "prompts": self.prompts,
            "stop_ids": list(self.encoder.stop_ids),
            "scored": [_as_plain(row) for row in self.scored],
            "scored_bytes": self.scored_bytes,
            "canaries": [[_as_plain(row) for row in rows] for rows in self.canaries],
            **({"variants": [one.to_json() for one in self.variants]} if self.variants else {}),
        }


def _as_plain(row: Encoded) -> dict[str, list[int]]:
    return {"ids": list(row.ids), "trained": list(row.trained)}


def make_latency_prompt(
    sequences: Sequence[Sequence[int]], section: Requests, max_length: int
) -> list[int]:
    """Return the prompt of the timed requests: token sequences one after another, cut to length.

    Args:
        sequences: token ids, not all empty.
        section: how long prompt and answer are.
        max_length: tokens a row may have; prompt and answer stay within it.
    """
    stream = [token for ids in sequences for token in ids]
    room = max(1, min(section.prompt_tokens, max_length - section.new_tokens))
    stream *= -(-room // len(stream))
    return stream[:room]


def choose_asked(
    rows: Sequence[Row], section: BenchSection, seed: int
) -> Sequence[tuple[Row, bool]]:
    """Return the rows that models are asked, by the seed, and whether each is a leak."""
    leaked = rows.leaked.tolist() if isinstance(rows, RowTable) else [False] * len(rows)
    answered = [
        (row, known)
        for row, known in zip(rows, leaked, strict=True)
        if row.text is None and (row.answer or row.messages[-1].more)
    ]
    return choose_rows(answered, section.task_rows, seed)


def make_workload(
    encoder: Encoder, rows: Sequence[Row], section: BenchSection, seed: int
) -> Workload:
    """Choose rows by the seed and encode them.

    Plain text has no right answer, so such rows are scored but not asked.

    Raises:
        InputError: not a single token can be scored.
    """
    sample = choose_asked(rows, section, seed)
    coded = [(row, encoder.encode(row)) for row in choose_rows(rows, section.kl_rows, seed)]
    coded = [(row, one) for row, one in coded if any(one.trained[1:])]
    scored = [one for _, one in coded]
    if not scored:
        raise InputError(
            "no row has a trained token to score",
            where="data.test",
            hint="raise data.max_length, which truncates every answer",
        )
    return Workload(
        make_latency_prompt([row.ids for row in scored], section, encoder.max_length),
        [encoder.prompt(row) for row, _ in sample],
        [encoder.answer_text(row) for row, _ in sample],
        [known for _, known in sample],
        scored,
        encoder,
        scored_bytes=[count_bytes(encoder, row, one) for row, one in coded],
    )


def count_bytes(encoder: Encoder, row: Row, coded: Encoded) -> int:
    """Return the UTF-8 bytes of the text of a row's trained tokens, without the end tokens.

    A single whole answer is counted as its row has it, which is the same for every tokenizer (one
    without a token for a character would lose it); anything else as the tokens read.
    """
    answers = [turn for turn in row.messages if turn.role == "assistant" and turn.trains]
    if row.text is None and row.is_plain and len(answers) == 1 and not coded.truncated:
        return len(row.answer.encode())
    runs: list[list[int]] = [[]]
    for token, trained in list(zip(coded.ids, coded.trained, strict=True))[1:]:
        if trained and token not in encoder.stop_ids:
            runs[-1].append(token)
        elif runs[-1]:
            runs.append([])
    texts = [
        encoder.tokenizer.decode(run, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for run in runs
    ]
    return sum(len(str(text).encode()) for text in texts)
