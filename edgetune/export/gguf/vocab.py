"""Which of llama.cpp's tokenizers a Hugging Face tokenizer is, decided from ``tokenizer.json``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from gguf import TokenType

SPACE = "▁"  # SentencePiece's visible space
GPT2_REGEX = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
_TAIL = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
_HEAD = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
# Pre-tokenizer regex to llama.cpp's name for it (src/llama-vocab.cpp, llm_tokenizer_bpe).
PRE_TOKENIZERS = {
    GPT2_REGEX: "gpt-2",
    f"{_HEAD}|\\p{{N}}{_TAIL}": "qwen2",
    f"{_HEAD}|\\p{{N}}{{1,3}}{_TAIL}": "smaug-bpe",  # Llama 3's, without its ignore_merges
}


@dataclass(frozen=True)
class SentencePiece:
    """A SentencePiece vocabulary as GGUF stores it: one entry a token id.

    Attributes:
        tokens: pieces, UTF-8.
        scores: the higher, the earlier two pieces are merged into this one.
        types: :class:`gguf.TokenType` values.
        space_prefix: a space is put before the text.
    """

    tokens: list[bytes]
    scores: list[float]
    types: list[int]
    space_prefix: bool


def read_tokenizer(folder: Path) -> dict[str, Any]:
    """Return ``tokenizer.json``, or an empty mapping where there is none.

    The last one is kept until :func:`forget_tokenizer`: 150,000 tokens take a second to read, and
    the memory of some hundred thousand strings.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return {}
    stat = path.stat()
    return _parse(path, (stat.st_mtime_ns, stat.st_size))


def forget_tokenizer() -> None:
    """Give back the memory of what :func:`read_tokenizer` read last."""
    _parse.cache_clear()


@lru_cache(maxsize=1)
def _parse(path: Path, _: object) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def is_sentencepiece(tokenizer: dict[str, Any]) -> bool:
    """Whether this is SentencePiece BPE with byte fallback (Llama 2, Mistral, Gemma, Phi-3)."""
    model = tokenizer.get("model", {})
    return model.get("type") == "BPE" and bool(model.get("byte_fallback"))


def is_byte_level(tokenizer: dict[str, Any]) -> bool:
    """Whether this is byte-level BPE (GPT-2, Llama 3, Qwen)."""
    steps = [step.get("type") for step in _pre_tokenizers(tokenizer)]
    return tokenizer.get("model", {}).get("type") == "BPE" and "ByteLevel" in steps


def name_pre_tokenizer(tokenizer: dict[str, Any]) -> str | None:
    """Return llama.cpp's name for a byte-level BPE's pre-tokenizer, or none that is the same."""
    steps = _pre_tokenizers(tokenizer)
    last = steps[-1] if steps else {}
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space"):
        return None
    regexes = [step.get("pattern", {}).get("Regex") for step in steps[:-1]]
    if any(step.get("type") != "Split" for step in steps[:-1]):
        return None
    if last.get("use_regex", True):
        regexes.append(GPT2_REGEX)
    if len(regexes) != 1:
        return None
    name = PRE_TOKENIZERS.get(str(regexes[0]))
    ignore_merges = bool(tokenizer["model"].get("ignore_merges"))
    if name == "smaug-bpe" and ignore_merges:
        return "llama-bpe"
    return None if ignore_merges else name


def find_vocabulary_faults(folder: Path) -> list[str]:
    """Return why llama.cpp cannot tokenize as this folder's tokenizer does; empty when it can."""
    tokenizer = read_tokenizer(folder)
    if not tokenizer:
        known = (folder / "tokenizer.model").is_file() or (folder / "merges.txt").is_file()
        return [] if known else ["there is no tokenizer.json, tokenizer.model or merges.txt"]
    if (folder / "tokenizer.model").is_file() or is_byte_level(tokenizer):
        return []
    model = tokenizer.get("model", {})
    if model.get("type") != "BPE":
        return [f"a {model.get('type')} vocabulary is not one of llama.cpp's for this architecture"]
    if not is_sentencepiece(tokenizer):
        return [
            "a SentencePiece vocabulary without byte fallback: llama.cpp has no id for a character "
            "outside it, where the tokenizer gives its unknown token"
        ]
    vocabulary = model["vocab"]
    missing = [byte for byte in range(256) if f"<0x{byte:02X}>" not in vocabulary]
    if missing:
        return [f"byte fallback without {len(missing)} of the 256 byte tokens"]
    return []


def fit_name(name: str, tokenizer: dict[str, Any]) -> str:
    """Return ``name`` such that llama.cpp tokenizes as this tokenizer does.

    llama.cpp goes by the model's name (src/llama-vocab.cpp): where "phi-3" or "phi3" is in it,
    spaces after a special token belong to that token, and loading fails without the tokens that
    Phi-3 has. So Phi-3's tokenizer gets a name that says so, and another one gets none.
    """
    added = {token["content"]: token for token in tokenizer.get("added_tokens", [])}
    known = "<|endoftext|>" in added or "<|endoftext|>" in tokenizer.get("model", {}).get(
        "vocab", {}
    )
    of_phi = known and bool(added.get("</s>", {}).get("rstrip"))
    named = re.search("phi-?3", name, re.IGNORECASE)
    if of_phi and not named:
        return f"{name} (Phi-3)"
    return name if of_phi else re.sub("(phi)-?(3)", r"\1 \2", name, flags=re.IGNORECASE)


def read_sentencepiece(folder: Path, size: int) -> SentencePiece:
    """Read a SentencePiece vocabulary of ``size`` ids back from ``tokenizer.json``.

    transformers 5 saves no ``tokenizer.model``, so the scores are gone. They only ever say which
    merge comes first, and that order is the order of ``merges``: the n-th piece that a merge makes
    gets the score -n, which is also what SentencePiece's BPE trainer writes.
    """
    tokenizer = read_tokenizer(folder)
    tokens = [f"[PAD{index}]".encode() for index in range(size)]
    scores = [0.0] * size
    types = [int(TokenType.UNUSED)] * size
    ranks: dict[str, int] = {}
    for piece in _merged_pieces(tokenizer):
        ranks.setdefault(piece, len(ranks))
    unknown = tokenizer["model"].get("unk_token")
    for piece, index in tokenizer["model"]["vocab"].items():
        tokens[index] = piece.encode()
        scores[index] = -float(ranks.get(piece, 0))
        types[index] = int(TokenType.BYTE if _is_byte(piece) else TokenType.NORMAL)
    for token in tokenizer.get("added_tokens", []):
        index, piece = token["id"], token["content"]
        kind = TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
        if piece == unknown:
            kind = TokenType.UNKNOWN
        if kind == TokenType.USER_DEFINED:
            piece = piece.replace(SPACE, " ")  # matched against the raw text, before escaping
        tokens[index], scores[index], types[index] = piece.encode(), 0.0, int(kind)
    return SentencePiece(tokens, scores, types, _prefixes_space(tokenizer))


def _merged_pieces(tokenizer: dict[str, Any]) -> Iterator[str]:
    """Yield what each merge makes; merges are pairs, or strings in files of before 2024."""
    for merge in tokenizer["model"].get("merges", []):
        yield merge.replace(" ", "", 1) if isinstance(merge, str) else "".join(merge)


def _prefixes_space(tokenizer: dict[str, Any]) -> bool:
    """Whether llama.cpp must put a space before each stretch of text between special tokens.

    A tokenizer that puts one before the very first stretch only (``prepend_scheme: first``) has no
    equal there: the choice is between all and none. Prompts begin with a special token, so none.
    """
    normalizer = tokenizer.get("normalizer") or {}
    steps = normalizer.get("normalizers", [normalizer])
    if any(step.get("type") == "Prepend" and step.get("prepend") == SPACE for step in steps):
        return True
    return any(
        step.get("type") == "Metaspace" and step.get("prepend_scheme", "always") == "always"
        for step in _pre_tokenizers(tokenizer)
    )


def _pre_tokenizers(tokenizer: dict[str, Any]) -> list[dict[str, Any]]:
    steps = tokenizer.get("pre_tokenizer") or {}
    found: list[dict[str, Any]] = steps.get("pretokenizers", [steps] if steps else [])
    return found


def _is_byte(piece: str) -> bool:
    return len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")
