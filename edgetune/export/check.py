"""Is a written file the merged model? Same token ids, and how far its distribution moved."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetune.compare import probes
from edgetune.compare.model_spec import LOSSLESS_KL
from edgetune.data.encode import Encoder
from edgetune.data.encoded import Encoded
from edgetune.data.rows import Row
from edgetune.errors import InputError
from edgetune.measure.quality import score_rows
from edgetune.measure.reference import ReferenceLogProbs
from edgetune.runtimes import Runtime


@dataclass(frozen=True)
class Chat:
    """A prompt as it is measured, and as the model's own chat template writes it.

    Attributes:
        messages: the conversation.
        text: what generation starts from, by the template of the rows.
        ids: of ``text``.
        own: the text by the model's own template; ``None`` where it carries none, so that a file
            of it has none to compare.
    """

    messages: list[dict[str, str]]
    text: str
    ids: list[int]
    own: str | None


@dataclass(frozen=True)
class Reference:
    """What every file is compared with.

    Attributes:
        texts: probe texts, and the ids the merged model's tokenizer gives them.
        chats: prompts of rows, see :class:`Chat`.
        rows: tokens whose distributions are compared, every position but the first.
        log_probs: the merged model's, of those rows.
        left_out: probes that no file can be held to: what normalizing would change.
        clock: the time the prompts were rendered at, for templates that print it.
    """

    texts: list[tuple[str, list[int]]]
    chats: list[Chat]
    rows: list[Encoded]
    log_probs: ReferenceLogProbs
    left_out: int
    clock: str


def make_reference(
    encoder: Encoder, rows: Sequence[Row], merged: Runtime, scratch: Path
) -> Reference:
    """Ask the merged model what the files will be asked."""
    tokenizer: Any = encoder.tokenizer
    texts, left_out = _fit_probes(
        tokenizer, [row.text or row.answer for row in rows if row.text or row.answer]
    )
    chats = [_make_chat(encoder, row, merged) for row in rows if row.text is None and row.is_plain]
    compared = []
    for row in rows:
        ids = encoder.encode(row).ids
        compared.append(Encoded(ids, [False] + [True] * (len(ids) - 1), False))
    path = scratch / "merged.npy"
    score_rows(merged, compared, keep=path)
    return Reference(
        [(text, list(tokenizer(text, add_special_tokens=False).input_ids)) for text in texts],
        chats,
        compared,
        ReferenceLogProbs(path),
        left_out,
        encoder.clock,
    )


def _make_chat(encoder: Encoder, row: Row, merged: Runtime) -> Chat:
    messages = [{"role": m.role, "content": m.content} for m in encoder.messages(row)[:-1]]
    text = encoder.prompt_text(row)
    try:
        own = merged.render(messages, encoder.clock)
    except InputError:  # it has no template, or one that the rows do without
        own = None
    return Chat(messages, text, encoder.prompt(row), own)


def _fit_probes(tokenizer: Any, texts: list[str]) -> tuple[list[str], int]:
    """Return the probes for this tokenizer, and how many were left out."""
    specials = [str(token) for token in tokenizer.all_special_tokens]
    asked = [*probes.TEXTS, "".join(specials), *(f"before{one}after {one} x" for one in specials)]
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    first = [tokenizer.bos_token or specials[0]] if specials else []
    return probes.fit_texts([*asked, *texts], state, first)


def check_file(runtime: Runtime, reference: Reference) -> dict[str, Any]:
    """Compare a file, loaded in its runtime, with the merged model.

    Returns:
        ``token_ids_equal``, ``texts`` (how many were tokenized), ``different`` (the first that were
        not the same), ``texts_left_out``, ``kl_all_tokens`` (mean, nats), ``top1_all_tokens``,
        ``positions``.
    """
    different = [text for text, ids in reference.texts if runtime.tokenize(text) != ids]
    for chat in reference.chats:
        if runtime.tokenize(chat.text) != chat.ids:
            different.append(chat.text)
        prompt = runtime.render(chat.messages, reference.clock) if chat.own is not None else None
        if prompt is not None and prompt != chat.own:
            different.append(prompt)
    scores = score_rows(runtime, reference.rows, {"merged": reference.log_probs})
    return {
        "token_ids_equal": not different,
        "texts": len(reference.texts) + len(reference.chats),
        "different": different[:3],
        "texts_left_out": reference.left_out,
        "kl_all_tokens": scores.mean_kl("merged").value,
        "top1_all_tokens": scores.top1_agreement("merged").value,
        "positions": scores.positions,
    }


def make_gates(name: str, scheme: str, checks: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what must hold: equal token ids for every file, a small KL for a lossless one."""
    equal = checks["token_ids_equal"]
    gates = [{"name": f"{name} token_ids_equal", "limit": 1, "value": int(equal), "ok": equal}]
    if scheme in LOSSLESS_KL:
        limit, value = LOSSLESS_KL[scheme], checks["kl_all_tokens"]
        gate = f"{name} kl_all_tokens_to_merged"
        gates.append({"name": gate, "limit": limit, "value": value, "ok": value <= limit})
    return gates


def make_budget_gates(
    files: Sequence[dict[str, Any]], budgets: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Return the gate of each file that has a budget of bytes: what was written is counted again.

    Args:
        files: ``name`` and ``bytes`` of each.
        budgets: of the plan.
    """
    gates = []
    for file in files:
        if (most := budgets.get(file["name"])) is not None:
            holds, name = file["bytes"] <= most, f"{file['name']} bytes"
            gates.append({"name": name, "limit": most, "value": file["bytes"], "ok": holds})
    return gates
