"""lm-eval's model ``edgetune``: GGUF, ONNX and Hugging Face folders in their own runtimes.

Token ids are those of lm-eval's ``hf`` model: context and continuation are encoded together, what
white space ends a context goes to the continuation, a begin token is added where the tokenizer
adds one and never twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, cast

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from edgetune.errors import InputError, nearest
from edgetune.lm_eval.chat import render_chat
from edgetune.lm_eval.generation import Job, check_greedy, cut_at, generate_until
from edgetune.lm_eval.vocabulary import check_length, read_vocabulary
from edgetune.runtimes import GENAI_CONFIG, Runtime, open_runtime
from edgetune.runtimes.gpu import find_gpu_fault
from edgetune.runtimes.likelihood import Likelihood, score_continuations

#: Requests scored together; what lm-eval's cache keeps of a run that is cut off.
TOGETHER = 256
MAX_NEW_TOKENS = 256  # lm-eval's own, where a task does not say
ARGUMENTS = ("path", "device", "threads", "max_length", "add_bos_token", "prefix_token_id")

#: What lm-eval calls a request: its texts, its context, its continuation.
Encoded = tuple[tuple[str, str] | None, list[int], list[int]]


class _Prompted(Runtime, Protocol):
    def tokenize_prompt(self, text: str) -> list[int]: ...


@register_model("edgetune")
class EdgetuneLM(TemplateLM):  # type: ignore[misc]
    """A model file as lm-eval sees it.

    Args:
        path: a ``.gguf`` file, a folder with ``genai_config.json``, or a Hugging Face folder.
        device: ``cpu`` or ``cuda``. lm-eval's command line says ``cuda:0`` where the user says
            nothing, so that is the CPU where the file's runtime has no GPU, as for ``hf``.
        max_length: tokens of context; absent: what the file says.
        arguments: ``threads``, CPU threads (absent: the cores this process may use);
            ``add_bos_token``, whether texts begin with the begin token (absent: as the tokenizer
            does); ``prefix_token_id``, what stands before a text without context (absent: the begin
            token, or the end token where there is none). ``batch_size`` and ``max_batch_size`` are
            ignored: what is computed together follows from memory.

    Raises:
        InputError: an unknown argument, or a file that cannot be loaded.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        device: str | None = None,
        max_length: int | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__()
        _check_arguments(path, arguments)
        self.path = Path(str(path)).expanduser()
        device = _choose_device(self.path, device)
        runtime = open_runtime(self.path, arguments.get("threads"), device)
        self.runtime = cast(_Prompted, runtime)
        self.vocabulary = read_vocabulary(self.path, runtime)
        self.max_length = check_length(max_length, self.vocabulary.context, str(self.path))
        self._adds_begin = arguments.get("add_bos_token")
        self._prefix = arguments.get("prefix_token_id")

    @property
    def eot_token_id(self) -> int | None:
        """The id of the token that ends a text."""
        return self.vocabulary.end

    @property
    def prefix_token_id(self) -> int:
        """The id of what stands before a text without context.

        Raises:
            InputError: the file has neither begin nor end token.
        """
        found = (self._prefix, self.vocabulary.begin, self.vocabulary.end)
        for one in found:
            if one is not None:
                return one
        raise InputError(
            "the file names no begin and no end token to put before a text",
            where=str(self.path),
            hint="give prefix_token_id=ID",
        )

    @property
    def tokenizer_name(self) -> str:
        """Its name in lm-eval's caches of requests: the file, as it is now."""
        state = self.path.stat()
        return f"{self.path.resolve()}-{state.st_size}-{state.st_mtime_ns}".replace("/", "__")

    def get_model_info(self) -> dict[str, Any]:
        """Return what lm-eval writes beside its results."""
        return {"model_path": str(self.path), "model_runtime": self.runtime.name}

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """Return the ids of a text; special tokens are added unless it begins with them."""
        added = add_special_tokens
        if added is None:
            prefix = self.vocabulary.texts.get(self.prefix_token_id)
            begun = bool(prefix) and string.startswith(str(prefix))
            added = False if begun else self._adds_begin
        if added is None:
            return self.runtime.tokenize_prompt(string)
        ids = self.runtime.tokenize(string)
        begin = self.vocabulary.begin
        if not added or begin is None:
            return ids
        whole = self.runtime.tokenize_prompt(string)
        return whole if whole[:1] == [begin] else [begin, *ids]

    def _loglikelihood_tokens(
        self, requests: Sequence[Encoded], disable_tqdm: bool = False, **_: Any
    ) -> list[Likelihood]:
        found: list[Likelihood] = []
        goes_on = [one[1] == before[1] for before, one in pairwise(requests)]
        title = "Running loglikelihood requests"
        for some in _portions(requests, title, disable_tqdm, goes_on):
            likelihoods = score_continuations(self.runtime, [self._fit(*one) for one in some])
            for (texts, *_ids), likelihood in zip(some, likelihoods, strict=True):
                if texts is not None:
                    self.cache_hook.add_partial("loglikelihood", texts, likelihood)
            found += likelihoods
        return found

    def _fit(
        self, texts: tuple[str, str] | None, context: list[int], continuation: list[int]
    ) -> tuple[list[int], list[int]]:
        """Cut the context from the left, as the ``hf`` model does."""
        if not continuation or len(continuation) > self.max_length:
            raise InputError(
                f"a continuation of {len(continuation)} tokens does not fit a context of "
                f"{self.max_length}" if continuation else "a continuation has no token of its own",
                where=repr(texts[1][:60]) if texts else str(self.path),
            )  # fmt: skip
        room = self.max_length + 1 - len(continuation)
        return context[-room:], continuation

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Return the log likelihood of each whole text, in windows of the model's context."""
        windows: list[Encoded] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            rolled = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            for context, continuation in map(make_disjoint_window, rolled):
                windows.append((None, context, continuation))
                owners.append(number)
        totals = [0.0] * len(requests)
        likelihoods = self._loglikelihood_tokens(windows, disable_tqdm)
        for owner, (log_prob, _) in zip(owners, likelihoods, strict=True):
            totals[owner] += log_prob
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", (request.args[0],), total)
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return the greedy answer to each context, up to the first of its stop texts.

        Raises:
            InputError: sampling or beams are asked for, or no room is left for a context.
        """
        answers: list[str] = []
        for some in _portions(requests, "Running generate_until requests", disable_tqdm):
            jobs = [self._job(*request.args) for request in some]
            texts = generate_until(self.runtime, jobs)
            for request, text, (_, _, stops) in zip(some, texts, jobs, strict=True):
                answers.append(cut_at(text, stops))
                self.cache_hook.add_partial("generate_until", request.args, answers[-1])
        return answers

    def _job(self, context: str, settings: dict[str, Any]) -> Job:
        wanted = normalize_gen_kwargs(settings, MAX_NEW_TOKENS)
        check_greedy(wanted, str(self.path))
        count = wanted["max_gen_toks"]
        room = self.max_length - count
        if room <= 0:
            raise InputError(
                f"{count} new tokens leave no room in a context of {self.max_length}",
                where=str(self.path),
                hint="lower the task's max_gen_toks",
            )
        end = self.vocabulary.end
        stops = [*wanted["until"], "" if end is None else self.vocabulary.texts[end]]
        return self.tok_encode(context)[-room:], count, [stop for stop in stops if stop]

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return the prompt text of a chat by the template in the file."""
        return render_chat(self.runtime, chat_history, add_generation_prompt)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return the template in the file, for lm-eval's records.

        Raises:
            InputError: one of several is asked for by its name.
        """
        if isinstance(chat_template, str):
            raise InputError(
                f"no chat template of the name '{chat_template}'",
                where=str(self.path),
                hint="the file has one; use --apply_chat_template without a name",
            )
        return self.vocabulary.template if chat_template else None

    def close(self) -> None:
        """Free the model."""
        self.runtime.close()


def _check_arguments(path: Any, arguments: dict[str, Any]) -> None:
    for name in sorted(set(arguments) - {*ARGUMENTS, "batch_size", "max_batch_size"}):
        raise InputError(
            f"no argument '{name}'{nearest(name, ARGUMENTS)}",
            where="--model_args",
            hint=f"there are {', '.join(ARGUMENTS)}",
        )
    if not path:
        raise InputError(
            "path is missing", where="--model_args", hint="path=FILE.gguf, or path=FOLDER"
        )


def _choose_device(path: Path, device: str | None) -> str:
    """Return ``cpu`` or ``cuda``."""
    if device not in (None, "cpu", "cuda", "cuda:0"):
        raise InputError(f"no device '{device}'", where="--device", hint="cpu or cuda")
    if device in (None, "cpu"):
        return "cpu"
    kind = "gguf" if path.is_file() else "onnx" if (path / GENAI_CONFIG).is_file() else "hf"
    return "cuda" if find_gpu_fault(kind) is None else "cpu"


def _portions(
    requests: Sequence[Any], title: str, quiet: bool, goes_on: Sequence[bool] = ()
) -> Iterator[Sequence[Any]]:
    """Yield requests some at a time, with lm-eval's progress bar.

    Args:
        requests: in their order.
        title: of the bar.
        quiet: show none.
        goes_on: for each request but the first whether it belongs with the one before, as the
            options of a question do, whose context is computed once.
    """
    with tqdm(total=len(requests), disable=quiet, desc=title) as bar:
        first = 0
        while first < len(requests):
            last = min(len(requests), first + TOGETHER)
            longest = min(len(requests), first + 2 * TOGETHER)
            while goes_on and last < longest and goes_on[last - 1]:
                last += 1
            some = requests[first:last]
            yield some
            bar.update(len(some))
            first = last
