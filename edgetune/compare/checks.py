"""The four checks: tokenizer, template, stopping and weights, each in the models' own runtimes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgetune.compare import probes
from edgetune.compare.comparison import Check
from edgetune.compare.loaded import LoadedModel, attempt
from edgetune.compare.logits import (
    GreedyAnswers,
    LogitComparison,
    TokenizedText,
    compare_greedy,
    compare_logits,
)
from edgetune.compare.model_spec import LOSSLESS_KL, ModelSpec, declared_ends
from edgetune.data.rows import Row
from edgetune.errors import InputError
from edgetune.log import counted

SHOWN = 3  # differences quoted of each kind
BEFORE, AFTER = 24, 40  # characters quoted around the first difference
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
    """What the weights are evaluated on.

    Attributes:
        rows: the user's rows; none: built-in prose and the reference's own answers.
        tokens: most tokens evaluated.
    """

    rows: Sequence[Row] = ()
    tokens: int = 4096

    @property
    def plain_rows(self) -> list[Row]:
        """Rows of texts, or of roles and contents: what every runtime can render.

        Tool calls, tools and reasoning are written by the chat template, not by the runtimes, so
        the bare answer of such a row is not what the model was trained to write.

        Raises:
            InputError: rows were given, and none is of that kind.
        """
        plain = [row for row in self.rows if row.text is not None or row.is_plain]
        if self.rows and not plain:
            raise InputError(
                "every row has tool calls, tools or reasoning; verify compares plain conversations",
                hint="give --data rows of roles and contents; export compares the others by ids",
            )
        return plain

    @property
    def left_out(self) -> int:
        """Number of rows that :attr:`plain_rows` leaves out."""
        return len(self.rows) - len(self.plain_rows)


def check_tokenizer(
    reference: LoadedModel, candidate: LoadedModel, texts: Sequence[str] = ()
) -> Check:
    """Compare ids on the probe set, special tokens inside text among it."""
    specials = list(dict.fromkeys([*reference.special_tokens, *candidate.special_tokens]))[:32]
    probe_texts = [
        *probes.TEXTS,
        "".join(specials),
        *(f"before{token}after {token} x" for token in specials),
    ]
    probe_texts += texts
    left_out = 0
    if "gguf" in {reference.subject.format, candidate.subject.format}:
        for model in (reference, candidate):
            if model.tokenizer_json:
                probe_texts, out = probes.fit_texts(probe_texts, model.tokenizer_json, specials)
                left_out += out
    different = []
    for text in probe_texts:
        (ids_reference, no_reference), (ids_candidate, no_candidate) = (
            attempt(reference.tokenize, text),
            attempt(candidate.tokenize, text),
        )
        if ids_reference != ids_candidate or (no_reference is None) != (no_candidate is None):
            different.append((text, no_reference or ids_reference, no_candidate or ids_candidate))
    examples = [
        _id_difference(reference, candidate, *difference) for difference in different[:SHOWN]
    ]
    figures = {
        "texts": len(probe_texts),
        "different": len(different),
        "left_out": left_out,
        "examples": examples,
    }
    if not different:
        return Check(
            "tokenizer", True, f"{counted(len(probe_texts), 'text')} with the same ids", figures
        )
    first = examples[0]
    summary = f"{len(different)} of {len(probe_texts)} texts give other ids; {first['text']!r}: "
    return Check(
        "tokenizer", False, summary + f"{first['reference']} against {first['candidate']}", figures
    )


def _id_difference(
    reference: LoadedModel, candidate: LoadedModel, text: str, of_reference: Any, of_candidate: Any
) -> dict[str, Any]:
    """Return the text around where two tokenizers part ways, and their ids from there on."""
    if isinstance(of_reference, str) or isinstance(of_candidate, str):  # one refuses the text
        return {
            "text": text[:80],
            "reference": _few(of_reference, 0),
            "candidate": _few(of_candidate, 0),
        }
    low, high = 0, len(text)  # the shortest prefix that already differs, found by halving
    while high - low > 1:
        half = (low + high) // 2
        same = attempt(reference.tokenize, text[:half]) == attempt(candidate.tokenize, text[:half])
        low, high = (half, high) if same else (low, half)
    at = _first(of_reference, of_candidate)
    shown = text[max(0, high - BEFORE) : high + AFTER]
    return {
        "text": shown,
        "character": high,
        "id": at,
        "reference": _few(of_reference, at),
        "candidate": _few(of_candidate, at),
    }


def _few(ids: Any, at: int) -> Any:
    return ids if isinstance(ids, str) else ids[max(0, at - 2) : at + 8]


def _first(reference: Sequence[Any], candidate: Sequence[Any]) -> int:
    """Return the first place at which two sequences differ."""
    differ = (i for i, (x, y) in enumerate(zip(reference, candidate, strict=False)) if x != y)
    return next(differ, min(len(reference), len(candidate)))


def check_template(
    reference: LoadedModel,
    candidate: LoadedModel,
    conversations: Sequence[list[dict[str, Any]]] = (),
) -> Check:
    """Compare the rendered text of golden conversations and its token ids in both models."""
    chats = [*probes.CONVERSATIONS, *conversations]
    different: list[dict[str, Any]] = []
    rendered, refused, none_reference, none_candidate = 0, 0, 0, 0
    for messages in chats:
        (text_reference, no_reference), (text_candidate, no_candidate) = (
            attempt(reference.render, messages),
            attempt(candidate.render, messages),
        )
        none_reference += "no chat template" in (no_reference or "")
        none_candidate += "no chat template" in (no_candidate or "")
        if no_reference is not None and no_candidate is not None:
            refused += 1  # both refuse it, a system message say
        elif text_reference != text_candidate:
            different.append(
                _first_difference(no_reference or text_reference, no_candidate or text_candidate)
            )
        else:
            rendered += 1
    figures = {
        "conversations": len(chats), "equal": rendered, "refused_by_both": refused,
        "examples": different[:SHOWN],
    }  # fmt: skip
    if none_reference == none_candidate == len(chats):
        return Check("template", None, "neither carries a chat template", figures)
    if none_candidate == len(chats):
        return Check("template", False, "the candidate carries no chat template", figures)
    if none_reference == len(chats):  # merging and tuning give a base without one a plain one
        summary = "the reference carries no chat template to compare with"
        return Check("template", None, summary, figures)
    if different and reference.template == candidate.template and reference.ends != candidate.ends:
        summary = (
            f"one template, but its end token is another: {reference.ends} against {candidate.ends}"
        )
        return Check("template", None, summary, figures)
    if different:
        one = different[0]
        summary = f"{len(different)} of {len(chats)} conversations render otherwise; at character "
        summary += f"{one['at']}: {one['reference']!r} against {one['candidate']!r}"
        return Check("template", False, summary, figures)
    return Check("template", True, f"{rendered} conversations render to the same text", figures)


def _first_difference(reference: str, candidate: str) -> dict[str, Any]:
    at = _first(reference, candidate)
    window = slice(max(0, at - BEFORE), at + AFTER)
    return {"at": at, "reference": reference[window], "candidate": candidate[window]}


def check_stopping(reference: LoadedModel, candidate: LoadedModel, answers: GreedyAnswers) -> Check:
    """Compare the ids that end an answer, then whether greedy answers end."""
    missing = [one for one in reference.ends if one not in candidate.ends]
    # What a runtime adds of its own accord (llama.cpp knows the usual end tokens by their text) is
    # no fault; what the file itself names and the first model does not know, is.
    named = {one for ids in declared_ends(candidate.subject).values() for one in ids}
    strange = sorted(named - set(reference.ends)) if reference.ends else []
    figures: dict[str, Any] = {
        "ends_reference": reference.ends, "ends_candidate": candidate.ends,
        "named_reference": declared_ends(reference.subject),
        "named_candidate": declared_ends(candidate.subject), "missing": missing, "strange": strange,
    }  # fmt: skip
    if not reference.ends and not candidate.ends:
        return Check("stopping", None, "neither names an end token", figures)
    answers_summary = ""
    if answers.prompts:
        ended_reference, ended_candidate = answers.ended()
        count = len(answers.prompts)
        figures |= {
            "answers": count,
            "ended_reference": ended_reference,
            "ended_candidate": ended_candidate,
        }
        answers_summary = f"{ended_reference} and {ended_candidate} of {count} greedy answers ended"
    # Not every container has room for what else a generation configuration lists.
    if set(missing) & set(reference.main_ends):
        summary = (
            f"the candidate does not stop at {missing}, where the reference does; {answers_summary}"
        )
        return Check("stopping", False, summary.removesuffix("; "), figures)
    if reference.ends and not named:
        summary = f"the candidate names no end token of its own; it should name {reference.ends}"
        return Check("stopping", False, summary, figures)
    if strange:
        summary = f"the candidate stops at {strange}, where the reference continues"
        return Check("stopping", False, summary, figures)
    what = f"both stop at {[one for one in reference.ends if one not in missing]}"
    if missing:
        what += f", only the reference at {missing}"
    return Check("stopping", True, f"{what}; {answers_summary}".removesuffix("; "), figures)


def check_weights(
    reference: LoadedModel,
    candidate: LoadedModel,
    rows: Sequence[TokenizedText],
    answers: GreedyAnswers,
) -> Check:
    """Compare distributions, teacher-forced on the same ids, and the first greedy difference."""
    found = compare_logits(reference, candidate, rows)
    figures: dict[str, Any] = {**found.to_json(), **compare_greedy(reference, candidate, answers)}
    limit, usual, name = limits(reference.subject, candidate.subject)
    figures |= {"limit": limit, "usual": usual, "scheme": name}
    return _summarize(found, limit, usual, name, figures)


def limits(reference: ModelSpec, candidate: ModelSpec) -> tuple[float, float | None, str]:
    """Return the KL that fails the pair, the usual one of a lossy pair, and the deciding scheme.

    NF4 below an adapter is no loss: its training saw the values that are computed with.
    """
    schemes = ["float32" if one.scheme == "nf4" else one.scheme for one in (reference, candidate)]
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


def _summarize(
    found: LogitComparison, limit: float, usual: float | None, name: str, figures: dict[str, Any]
) -> Check:
    summary = f"KL {found.kl_mean:.2e} over {counted(found.positions, 'token')}, "
    summary += f"same top token at {found.top1:.2%}"
    if usual is None:
        # Rounding to 16 bits may turn near ties over; nothing may between equal weights.
        exact = limit <= LOSSLESS_KL["float32"]
        ok = found.kl_mean <= limit and (not exact or found.top1 >= TOP1_LOSSLESS)
        summary += f"; lossless means at most {limit:g}"
    else:
        ok = found.kl_mean <= limit
        place = "as usual" if found.kl_mean <= usual else "more than usual"
        summary += f"; {place} for {name} (up to {usual:g})"
    return Check("weights", ok, summary, figures)
