"""Is a written file the merged model? Same token ids, and how far its distribution moved."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetune.data.encode import Encoded, Encoder
from edgetune.data.rows import Row
from edgetune.measure.quality import ReferenceLogProbs, score_rows
from edgetune.runtimes import Runtime

LOSSLESS_KL = {"F32": 1e-5, "fp32": 1e-5, "F16": 1e-3, "BF16": 1e-3, "fp16": 1e-3}
# Where tokenizers part ways; special tokens of the model itself are added to these.
PROBES = (
    "",
    "Hello world",
    " leading and trailing ",
    "a  b   c    d\t\te\n\n\nf \n g\r\nh",
    "1 22 333 4444 55555 3.14159 1,000,000 0x1F 2026-11-20",
    "it's I'm you'LL we've he'd 'tis O'Neil",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇨🇭 ☕",
    "東京都に住んでいます。 你好，世界！ 안녕하세요",
    "שלום עולם مرحبا بالعالم ١٢٣",
    "naïve café Zoë Ångström ﬁ ½ ²",
    "e\u0301 n\u0303 a\u0308\u0323 \u1100\u1161",
    "def f(x):\n    return {'a': [1, 2], \"b\": x ** 2}  # done\n",
    '{"call": "light.set", "room": "kitchen", "level": 40}',
    "<not_a_token> <|also_not|> </p> [INST] <<SYS>>",
    "\x01\x02\x7f\u200b\u200d\ufeff\u00ad\u2028",
    "ΑΒΓ абв ĐđŁł İı ǅ",
    "word" * 60 + " " + "x" * 300,
    "The quick brown fox jumps over the lazy dog. " * 30,
)


@dataclass(frozen=True)
class Reference:
    """What every file is compared with.

    Attributes:
        texts: probe texts, and the ids the merged model's tokenizer gives them.
        chats: messages, and the ids of the rendered prompt.
        rows: tokens whose distributions are compared, every position but the first.
        log_probs: the merged model's, of those rows.
        left_out: probes that no file can be held to: what normalizing would change.
    """

    texts: list[tuple[str, list[int]]]
    chats: list[tuple[list[dict[str, str]], list[int]]]
    rows: list[Encoded]
    log_probs: ReferenceLogProbs
    left_out: int


def make_reference(
    encoder: Encoder, rows: Sequence[Row], merged: Runtime, scratch: Path
) -> Reference:
    """Ask the merged model what the files will be asked."""
    tokenizer: Any = encoder.tokenizer
    probes, left_out = _fit_probes(tokenizer, [row.text or row.answer for row in rows])
    chats = [
        ([{"role": m.role, "content": m.content} for m in encoder.messages(row)[:-1]], row)
        for row in rows
        if row.text is None
    ]
    compared = []
    for row in rows:
        ids = encoder.encode(row).ids
        compared.append(Encoded(ids, [False] + [True] * (len(ids) - 1), False))
    path = scratch / "merged.npy"
    score_rows(merged, compared, keep=path)
    return Reference(
        [(text, list(tokenizer(text, add_special_tokens=False).input_ids)) for text in probes],
        [(messages, encoder.prompt(row)) for messages, row in chats],
        compared,
        ReferenceLogProbs(path),
        left_out,
    )


def _fit_probes(tokenizer: Any, texts: list[str]) -> tuple[list[str], int]:
    """Return the probes for this tokenizer, and how many were left out.

    llama.cpp does not normalize: where the tokenizer does (Qwen's does, to NFC), text that it would
    change is left out. Nor does it tell the start of the text from that of a stretch behind a
    special token: where the tokenizer does, every probe begins with one, as prompts do.
    """
    specials = [str(token) for token in tokenizer.all_special_tokens]
    probes = [*PROBES, "".join(specials), *(f"before{token}after {token} x" for token in specials)]
    probes += texts
    backend = tokenizer.backend_tokenizer
    kept = probes
    if "NFC" in str(backend.normalizer):
        kept = [text for text in probes if unicodedata.normalize("NFC", text) == text]
    if 'prepend_scheme="first"' in str(backend.pre_tokenizer) and specials:
        kept = [(tokenizer.bos_token or specials[0]) + text for text in kept]
    return kept, len(probes) - len(kept)


def check_file(runtime: Runtime, reference: Reference) -> dict[str, Any]:
    """Compare a file, loaded in its runtime, with the merged model.

    Returns:
        ``token_ids_equal``, ``texts`` (how many were tokenized), ``different`` (the first that were
        not the same), ``texts_left_out``, ``kl_divergence`` (mean, nats), ``top1_agreement``,
        ``positions``.
    """
    different = [text for text, ids in reference.texts if runtime.tokenize(text) != ids]
    for messages, ids in reference.chats:
        prompt = runtime.render(messages)
        if runtime.tokenize(prompt) != ids:
            different.append(prompt)
    scores = score_rows(runtime, reference.rows, {"merged": reference.log_probs})
    return {
        "token_ids_equal": not different,
        "texts": len(reference.texts) + len(reference.chats),
        "different": different[:3],
        "texts_left_out": reference.left_out,
        "kl_divergence": scores.kl_divergence("merged").value,
        "top1_agreement": scores.top1_agreement("merged").value,
        "positions": scores.positions,
    }


def make_gates(name: str, scheme: str, checks: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what must hold: equal token ids for every file, a small KL for a lossless one."""
    equal = checks["token_ids_equal"]
    gates = [{"name": f"{name} token_ids_equal", "limit": 1, "value": int(equal), "ok": equal}]
    if scheme in LOSSLESS_KL:
        limit, value = LOSSLESS_KL[scheme], checks["kl_divergence"]
        gate = f"{name} kl_divergence_to_merged"
        gates.append({"name": gate, "limit": limit, "value": value, "ok": value <= limit})
    return gates
