"""The four checks, each asked of both models in their own runtimes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgetune.compare import probes
from edgetune.compare.comparison import Check
from edgetune.compare.loaded import Side, attempt
from edgetune.compare.logits import (
    Answers,
    Judged,
    Weights,
    compare_greedy,
    compare_logits,
)
from edgetune.compare.model_spec import LOSSLESS_KL, Subject, declared_ends
from edgetune.data.rows import Row
from edgetune.log import counted

SHOWN = 3  # differences quoted of each kind
BEFORE, BEHIND = 24, 40  # characters quoted around the first difference
#: KL in nats that a scheme usually costs at most: chosen above what the quickstart's files show.
USUAL_KL = {
    "Q8_0": 2e-3, "Q6_K": 1e-2, "Q5_K_M": 3e-2, "Q5_K_S": 4e-2, "Q4_K_M": 0.1, "Q4_K_S": 0.12,
    "Q4_0": 0.2, "IQ4_NL": 0.15, "IQ4_XS": 0.15, "Q3_K_M": 0.4, "Q2_K": 1.0,
    "int8": 5e-3, "int4": 0.3,
}  # fmt: skip
LOSSY_FACTOR = 4  # times the usual KL is taken for another model
TOP1_LOSSLESS = 0.999


@dataclass(frozen=True)
class Question:
    """What the weights are judged on.

    Attributes:
        rows: the user's rows; none: built-in prose and the first model's own answers.
        tokens: at most so many are judged.
    """

    rows: Sequence[Row] = ()
    tokens: int = 4096


def check_tokenizer(a: Side, b: Side, texts: Sequence[str] = ()) -> Check:
    """Compare ids on the probe set, special tokens inside text among it."""
    specials = list(dict.fromkeys([*a.special_tokens, *b.special_tokens]))[:32]
    asked = [*probes.TEXTS, "".join(specials), *(f"before{one}after {one} x" for one in specials)]
    asked += texts
    left_out = 0
    if "gguf" in {a.subject.format, b.subject.format}:
        for side in (a, b):
            if side.tokenizer_json:
                asked, out = probes.fit_texts(asked, side.tokenizer_json, specials)
                left_out += out
    different = []
    for text in asked:
        (ids_a, no_a), (ids_b, no_b) = attempt(a.tokenize, text), attempt(b.tokenize, text)
        if ids_a != ids_b or (no_a is None) != (no_b is None):
            different.append((text, no_a or ids_a, no_b or ids_b))
    figures = {
        "texts": len(asked),
        "different": len(different),
        "left_out": left_out,
        "examples": [_id_difference(a, b, *each) for each in different[:SHOWN]],
    }
    if not different:
        return Check("tokenizer", True, f"{counted(len(asked), 'text')} with the same ids", figures)
    first = figures["examples"][0]
    said = f"{len(different)} of {len(asked)} texts give other ids; {first['text']!r}: "
    return Check("tokenizer", False, said + f"{first['a']} against {first['b']}", figures)


def _id_difference(a: Side, b: Side, text: str, of_a: Any, of_b: Any) -> dict[str, Any]:
    """Return the text around where two tokenizers part ways, and their ids from there on."""
    if isinstance(of_a, str) or isinstance(of_b, str):  # one refuses the text
        return {"text": text[:80], "a": _few(of_a, 0), "b": _few(of_b, 0)}
    low, high = 0, len(text)  # the shortest prefix that already differs, found by halving
    while high - low > 1:
        half = (low + high) // 2
        same = attempt(a.tokenize, text[:half]) == attempt(b.tokenize, text[:half])
        low, high = (half, high) if same else (low, half)
    at = _first(of_a, of_b)
    shown = text[max(0, high - BEFORE) : high + BEHIND]
    return {"text": shown, "character": high, "id": at, "a": _few(of_a, at), "b": _few(of_b, at)}


def _few(ids: Any, at: int) -> Any:
    return ids if isinstance(ids, str) else ids[max(0, at - 2) : at + 8]


def _first(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Return the first place at which two sequences differ."""
    differ = (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return next(differ, min(len(a), len(b)))


def check_template(a: Side, b: Side, conversations: Sequence[list[dict[str, Any]]] = ()) -> Check:
    """Compare the rendered text of golden conversations and the ids each side gives it."""
    asked = [*probes.CONVERSATIONS, *conversations]
    different: list[dict[str, Any]] = []
    rendered, refused, none_a, none_b = 0, 0, 0, 0
    for messages in asked:
        (text_a, no_a), (text_b, no_b) = attempt(a.render, messages), attempt(b.render, messages)
        none_a += "no chat template" in (no_a or "")
        none_b += "no chat template" in (no_b or "")
        if no_a is not None and no_b is not None:
            refused += 1  # both refuse it, a system message say
        elif text_a != text_b:
            different.append(_first_difference(no_a or text_a, no_b or text_b))
        else:
            rendered += 1
    figures = {
        "conversations": len(asked), "equal": rendered, "refused_by_both": refused,
        "examples": different[:SHOWN],
    }  # fmt: skip
    if none_a == none_b == len(asked):
        return Check("template", None, "neither carries a chat template", figures)
    if none_b == len(asked):
        return Check("template", False, "the second carries no chat template", figures)
    if none_a == len(asked):  # merging and tuning give a base without one a plain one
        said = "the first carries no chat template that the second's could contradict"
        return Check("template", None, said, figures)
    if different and a.template == b.template and a.ends != b.ends:
        said = f"one template, but its end token is another: {a.ends} against {b.ends}"
        return Check("template", None, said, figures)
    if different:
        one = different[0]
        said = f"{len(different)} of {len(asked)} conversations render otherwise; at character "
        said += f"{one['at']}: {one['a']!r} against {one['b']!r}"
        return Check("template", False, said, figures)
    return Check("template", True, f"{rendered} conversations render to the same text", figures)


def _first_difference(a: str, b: str) -> dict[str, Any]:
    at = _first(a, b)
    window = slice(max(0, at - BEFORE), at + BEHIND)
    return {"at": at, "a": a[window], "b": b[window]}


def check_stopping(a: Side, b: Side, answers: Answers) -> Check:
    """Compare the ids that end an answer, then whether greedy answers end."""
    missing = [one for one in a.ends if one not in b.ends]
    # What a runtime adds of its own accord (llama.cpp knows the usual end tokens by their text) is
    # no fault; what the file itself names and the first model does not know, is.
    named = {one for ids in declared_ends(b.subject).values() for one in ids}
    strange = sorted(named - set(a.ends)) if a.ends else []
    figures: dict[str, Any] = {
        "ends_a": a.ends, "ends_b": b.ends, "named_a": declared_ends(a.subject),
        "named_b": declared_ends(b.subject), "missing": missing, "strange": strange,
    }  # fmt: skip
    if not a.ends and not b.ends:
        return Check("stopping", None, "neither names an end token", figures)
    said_answers = ""
    if answers.prompts:
        ended_a, ended_b = answers.ended()
        count = len(answers.prompts)
        figures |= {"answers": count, "ended_a": ended_a, "ended_b": ended_b}
        said_answers = f"{ended_a} and {ended_b} of {count} greedy answers ended"
    # Not every container has room for what else a generation configuration lists.
    if set(missing) & set(a.main_ends):
        said = f"the second does not stop at {missing}, where the first does; {said_answers}"
        return Check("stopping", False, said.removesuffix("; "), figures)
    if a.ends and not named:
        said = f"the second names no end token of its own; it should name {a.ends}"
        return Check("stopping", False, said, figures)
    if strange:
        said = f"the second stops at {strange}, where the first goes on"
        return Check("stopping", False, said, figures)
    what = f"both stop at {[one for one in a.ends if one not in missing]}"
    if missing:
        what += f", only the first at {missing}"
    return Check("stopping", True, f"{what}; {said_answers}".removesuffix("; "), figures)


def check_weights(a: Side, b: Side, rows: Sequence[Judged], answers: Answers) -> Check:
    """Compare distributions, teacher-forced on the same ids, and the first greedy difference."""
    found = compare_logits(a, b, rows)
    figures: dict[str, Any] = {**found.to_json(), **compare_greedy(a, b, answers)}
    limit, usual, name = limits(a.subject, b.subject)
    figures |= {"limit": limit, "usual": usual, "scheme": name}
    return _judge(found, limit, usual, name, figures)


def limits(a: Subject, b: Subject) -> tuple[float, float | None, str]:
    """Return the KL that fails the pair, the usual one of a lossy pair, and the deciding scheme.

    NF4 below an adapter is no loss: its training saw the values that are computed with.
    """
    schemes = ["float32" if one.scheme == "nf4" else one.scheme for one in (a, b)]
    lossy = [one for one in schemes if one not in LOSSLESS_KL]
    if not lossy:
        worst = max(schemes, key=lambda one: LOSSLESS_KL[one])
        # A 16-bit folder against the file made of it loses nothing: only two roundings can differ.
        rounded = [one for one in schemes if LOSSLESS_KL[one] > LOSSLESS_KL["float32"]]
        exact = schemes[0] == "bfloat16" and schemes[1] in ("F32", "fp32", "BF16")
        return LOSSLESS_KL["float32" if exact or not rounded else worst], None, worst
    worst = max(lossy, key=lambda one: USUAL_KL.get(one, 1.0))
    usual = USUAL_KL.get(worst, 1.0)
    return LOSSY_FACTOR * usual, usual, worst


def _judge(
    found: Weights, limit: float, usual: float | None, name: str, figures: dict[str, Any]
) -> Check:
    said = f"KL {found.kl_mean:.2e} over {counted(found.positions, 'token')}, "
    said += f"same top token at {found.top1:.2%}"
    if usual is None:
        # Rounding to 16 bits may turn near ties over; nothing may between equal weights.
        exact = limit <= LOSSLESS_KL["float32"]
        ok = found.kl_mean <= limit and (not exact or found.top1 >= TOP1_LOSSLESS)
        said += f"; lossless means at most {limit:g}"
    else:
        ok = found.kl_mean <= limit
        place = "as usual" if found.kl_mean <= usual else "more than usual"
        said += f"; {place} for {name} (up to {usual:g})"
    return Check("weights", ok, said, figures)
