"""What each measurement is: one name, one definition, wherever it is used.

Names say over which tokens a mean is taken. *Answer tokens* are those a row trains on, given all
before them; *all tokens* are every token of a row but the first.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Definition:
    """A measurement.

    Attributes:
        title: as tables have it.
        unit: empty for a ratio or a plain number.
        text: what was computed, of what.
    """

    title: str
    unit: str
    text: str


_KL = "mean of KL(reference || model), in nats per token, over the {tokens} tokens of {rows}"
_TOP1 = (
    "fraction of the {tokens} tokens of {rows} at which the most likely token is the reference's"
)
_ANSWER = {"tokens": "answer", "rows": "bench.kl_rows test rows"}
_ALL = {"tokens": "prompt and answer", "rows": "export.check_rows test rows, but the first of each"}
_TEACHER = "; the reference is the teacher, or the base where nothing was tuned"
_MERGED = "; the reference is the merged model"

#: What bench measures of every model, or of those it can be measured of.
MEASUREMENTS = {
    "exact_match": Definition(
        "Exact match", "",
        "fraction of bench.task_rows test rows whose greedy answer is the row's, outer white space "
        "aside; the interval is Wilson's",
    ),
    "exact_match_without_leaks": Definition(
        "Without leaks", "",
        "exact_match without the test rows whose prompt train has too, or a prompt of a Jaccard "
        "similarity of data.clean.similarity; measured where there are such rows",
    ),
    "perplexity": Definition(
        "Perplexity", "",
        "exp of the mean negative log likelihood of the answer tokens of bench.kl_rows test rows",
    ),
    "bits_per_byte": Definition(
        "Bits per byte", "bits",
        "negative log likelihood of the answer tokens of bench.kl_rows test rows, end tokens "
        "included, in bits, over the UTF-8 bytes of those answers' texts: unlike perplexity it "
        "compares models of different tokenizers",
    ),
    "kl_answer_tokens": Definition("KL to teacher", "nats", _KL.format(**_ANSWER) + _TEACHER),
    "kl_answer_tokens_p99": Definition(
        "KL to teacher, p99", "nats", "99th percentile over the tokens of kl_answer_tokens"
    ),
    "kl_answer_tokens_to_merged": Definition(
        "KL to merged", "nats", _KL.format(**_ANSWER) + _MERGED
    ),
    "top1_answer_tokens": Definition("Top-1", "", _TOP1.format(**_ANSWER) + _TEACHER),
    "top1_answer_tokens_to_merged": Definition(
        "Top-1 to merged", "", _TOP1.format(**_ANSWER) + _MERGED
    ),
    "canary_exposure": Definition(
        "Canary exposure", "bits",
        "log2(16) less log2 of an inserted secret's rank among 15 others that were never seen, by "
        "likelihood, mean over data.canary secrets (Carlini et al. 2019); 1.2 is chance, 4 that "
        "each is remembered",
    ),
    "ttft_ms_p50": Definition(
        "First token", "ms",
        "median time from a request to its first token: a prompt of bench.prompt_tokens is read "
        "and one token is chosen",
    ),
    "ttft_ms_p95": Definition(
        "First token, p95", "ms", "95th percentile of the time to first token"
    ),
    "prefill_tokens_per_s": Definition(
        "Prefill tok/s", "tokens/s",
        "prompt tokens over the time to first token: ids are read, and the first token of the "
        "answer is chosen; text is not tokenized in that time",
    ),
    "tpot_ms_p50": Definition(
        "Per token", "ms", "median time from one token of an answer to the next"
    ),
    "tpot_ms_p95": Definition("Per token, p95", "ms", "95th percentile of the time per token"),
    "decode_tokens_per_s": Definition(
        "Decode tok/s", "tokens/s",
        "tokens of an answer after its first over their time, at the depth of the prompt: after "
        "bench.prompt_tokens tokens (llama-bench's default depth is 0); the interval is Student's "
        "over the requests",
    ),
    "decode_tokens_per_s_depth_0": Definition(
        "Decode tok/s, depth 0", "tokens/s",
        "bench.new_tokens tokens that follow a prompt of one token, over their time, that token's "
        "reading included: what llama-bench calls tg at its default depth of 0; the interval is "
        "Student's over the requests",
    ),
    "load_s": Definition("Load", "s", "time to open the model in a fresh process"),
    "peak_rss_bytes": Definition(
        "Peak memory", "bytes",
        "most memory its process held while it loaded and answered, Python and runtime included",
    ),
    "peak_vram_bytes": Definition(
        "Peak GPU memory", "bytes",
        "most GPU memory its process held while it loaded and answered; where.vram says how it was "
        "found: nvml_process is the whole process, CUDA context included; nvml_device the growth "
        "of the device's used memory, where the driver does not tell processes apart; "
        "torch_reserved torch's own pool alone, where nvidia-ml-py is not installed",
    ),
}  # fmt: skip

#: What export finds of each file, and what files are described by.
CHECKS = {
    "kl_all_tokens": Definition(
        "KL to merged, all tokens", "nats", _KL.format(**_ALL) + _MERGED
    ),
    "top1_all_tokens": Definition("Same top token", "", _TOP1.format(**_ALL) + _MERGED),
    "bits_per_weight": Definition(
        "Bits per weight", "bits",
        "bits of the tensors' data over the parameters of the merged model, a tied head counted "
        "once; header, vocabulary, graph and configurations are not counted, as in llama.cpp's BPW",
    ),
}  # fmt: skip

#: What a request costs, by each prompt of bench.prompting.
PROMPTING = {
    "request_tokens": Definition(
        "Tokens per request", "tokens",
        "mean tokens of prompt and answer of the test rows asked by this prompt",
    ),
    "request_ms_p50": Definition(
        "Time per request", "ms",
        "median time of bench.repeats requests, one after another, from the prompt's tokens to the "
        "answer's last; nothing of a prompt is cached between them",
    ),
}  # fmt: skip

_CLASSIFIED = {
    "probability": "mean over the test rows of the probability that {classifier} gives the label "
    "'{label}' for the model's answer; 0 for an empty one; the interval is a bootstrap's over rows",
    "rate": "fraction of the test rows for whose answers the probability that {classifier} gives "
    "the label '{label}' is above 0.5; the interval is Wilson's",
}


def name_classified(classifier: str, rate: bool = False) -> str:
    """Return the name of a classifier's metric: mean probability of its label, or rate above 0.5.

    Args:
        classifier: as the recipe calls it.
        rate: which of the two.
    """
    return f"classifier_{classifier}_{'rate' if rate else 'probability'}"


def define_classified(classifier: str, model: str, label: str) -> dict[str, Definition]:
    """Return the definitions of a classifier's metrics, by name.

    Args:
        classifier: as the recipe calls it.
        model: name of its folder.
        label: the label that counts.
    """
    return {
        name_classified(classifier, kind == "rate"): Definition(
            f"{classifier}, {'above 0.5' if kind == 'rate' else 'mean probability'}", "",
            text.format(classifier=f"the classifier {model}", label=label),
        )
        for kind, text in _CLASSIFIED.items()
    }  # fmt: skip


DEFINITIONS = {**MEASUREMENTS, **CHECKS, **PROMPTING}

#: Former names, which did not say over which tokens; gates and kept runs may still hold them.
RENAMED = {
    "kl_divergence": "kl_answer_tokens",
    "kl_divergence_p99": "kl_answer_tokens_p99",
    "kl_divergence_to_merged": "kl_answer_tokens_to_merged",
    "top1_agreement": "top1_answer_tokens",
    "top1_agreement_to_merged": "top1_answer_tokens_to_merged",
}

#: Former names of gates.
RENAMED_GATES = {"merge_kl_divergence": "merge_kl_answer_tokens"}
