"""A server with OpenAI's chat interface as the teacher: bounded in time, size, number and retries.

Only the address that the recipe names is called. Redirects are refused, because the key would go
with them; the key is read from the environment and is in no message, log or file.
"""

from __future__ import annotations

import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from threading import Lock
from typing import IO, Any

from edgetune.data.rows import Message
from edgetune.errors import InputError
from edgetune.recipe import DataSection
from edgetune.recipe.synthesis import SynthesizeSection
from edgetune.synthesize.address import check_address, read_key
from edgetune.synthesize.teacher import CUT_OFF, EMPTY, Question, Reply, Usage, add_system

MOST_BYTES = 8 << 20  # of a response
LONGEST_PAUSE = 30.0  # seconds between two attempts
SPENT = "max_requests reached"
SHOWN = 200  # characters of what a server says that a message holds
_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)


class _Spent(Exception):
    """``max_requests`` requests were made."""


class _Retry(Exception):
    """An attempt failed in a way that another may not; ``garbage``: the server did answer."""

    def __init__(self, what: str, garbage: bool = False, pause: float = 0.0) -> None:
        super().__init__(what)
        self.garbage, self.pause = garbage, pause


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str,
        headers: Any, newurl: str,
    ) -> None:  # fmt: skip
        """Follow nothing: the response then is an error like any other."""


class EndpointTeacher:
    """Asks ``POST <endpoint>/chat/completions``, several questions at a time.

    Args:
        section: address, model, time-out, retries and limits.
        data: gives the system message.
        spent: requests that earlier processes of the same work made.
    """

    def __init__(self, section: SynthesizeSection, data: DataSection, spent: int = 0) -> None:
        assert section.endpoint is not None and section.model is not None
        self._section, self._system = section, data.system
        self._address = check_address(section.endpoint)
        self._key = read_key(section.key_env)
        self._opener = urllib.request.build_opener(_NoRedirect())
        self._lock, self._spent = Lock(), spent
        self.usage = Usage()
        self.origin = {"endpoint": section.endpoint, "model": section.model}

    def with_system(self, prompt: Sequence[Message]) -> tuple[Message, ...]:
        return add_system(prompt, self._system)

    def ask(self, questions: Sequence[Question], scored: bool = False) -> list[Reply]:
        """Return a reply to each question.

        Raises:
            InputError: the server cannot be reached, refuses the request, or returned nothing
                usable to any of several questions.
        """
        with ThreadPoolExecutor(self._section.concurrency) as pool:
            futures = [pool.submit(self._ask, question) for question in questions]
            try:
                replies = [future.result() for future in futures]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        garbage = [reply for reply in replies if reply.fault.startswith("the endpoint")]
        if len(replies) > 1 and len(garbage) == len(replies):
            raise InputError(
                garbage[0].fault, where=self._address,
                hint="is this an OpenAI-compatible chat server? Rows that are finished are kept",
            )  # fmt: skip
        return replies

    def close(self) -> None:
        """Nothing is held."""

    def _ask(self, question: Question) -> Reply:
        section = self._section
        body: dict[str, Any] = {
            "model": section.model,
            "messages": [{"role": m.role, "content": m.content} for m in question.turns],
            "temperature": question.temperature,
            "max_tokens": section.max_new_tokens,
            "seed": question.number % 2**31,
        }
        if question.temperature > 0:
            body["top_p"] = section.top_p
        for attempt in range(section.retries + 1):
            try:
                return self._read(self._post(json.dumps(body).encode()))
            except _Spent:
                return Reply("", SPENT)
            except _Retry as error:
                fault = error
            if attempt < section.retries:
                pause = min(LONGEST_PAUSE, max(fault.pause, 0.5 * 2**attempt))
                time.sleep(pause * (0.75 + random.random() / 2))  # not all at the same moment
        if fault.garbage:
            return Reply("", f"the endpoint returned {fault}")
        raise InputError(
            f"the endpoint does not answer after {section.retries + 1} attempts: {fault}",
            where=self._address,
            hint="see that it runs; the same command goes on from the rows that are finished",
        )

    def _post(self, body: bytes) -> Any:
        """Send one request and return the JSON of its response."""
        with self._lock:
            limit = self._section.max_requests
            if limit is not None and self._spent >= limit:
                raise _Spent
            self._spent += 1
            self.usage.calls += 1
        headers = {"Content-Type": "application/json", "User-Agent": "edgetune"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self._address, body, headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._section.timeout) as response:
                raw = _read_bounded(response, time.monotonic() + self._section.timeout)
        except urllib.error.HTTPError as error:
            raise self._explain(error) from None  # its text may hold the request's headers
        except (OSError, HTTPException) as error:
            raise _Retry(self._hide(str(getattr(error, "reason", error)) or "no reason")) from None
        try:
            return json.loads(raw)
        except (ValueError, RecursionError):
            raise _Retry("no JSON", garbage=True) from None

    def _explain(self, error: urllib.error.HTTPError) -> Exception:
        """Return what to raise for a response that is an error."""
        try:
            said = error.read(SHOWN * 4).decode("utf-8", "replace")
        except (OSError, HTTPException):
            said = ""
        said = self._hide(" ".join(said.split()))[:SHOWN]
        what = f"HTTP {error.code}: {said or error.reason}"
        if error.code in _AGAIN:
            return _Retry(what, pause=_seconds(error.headers.get("Retry-After")))
        hints = {
            401: "name the variable that holds the key: synthesize.key_env",
            403: "the key may not use this model",
            404: "the address ends before /chat/completions, as in http://127.0.0.1:8080/v1",
        }
        hint = "name the address that it redirects to" if 300 <= error.code < 400 else ""
        return InputError(
            f"the endpoint refuses the request: {what}", where=self._address,
            hint=hints.get(error.code, hint),
        )  # fmt: skip

    def _read(self, value: Any) -> Reply:
        try:
            choice = value["choices"][0]
            text, ended = choice["message"]["content"], choice.get("finish_reason")
            if not isinstance(text, str):
                raise TypeError
            text.encode()
        except (KeyError, IndexError, TypeError, AttributeError, UnicodeEncodeError):
            raise _Retry("a response without an answer", garbage=True) from None
        usage = value.get("usage")
        with self._lock:
            self.usage.prompt_tokens += _count(usage, "prompt_tokens")
            self.usage.generated_tokens += _count(usage, "completion_tokens")
        if ended == "length":
            return Reply("", CUT_OFF)
        return Reply(text.strip()) if text.strip() else Reply("", EMPTY)

    def _hide(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text


def _read_bounded(response: Any, deadline: float) -> bytes:
    """Return a response's bytes; a server that sends them drop by drop runs out of time."""
    parts: list[bytes] = []
    size = 0
    while part := response.read1(1 << 16):
        parts.append(part)
        size += len(part)
        if size > MOST_BYTES:
            raise _Retry(f"more than {MOST_BYTES >> 20} MB", garbage=True)
        if time.monotonic() > deadline:
            raise TimeoutError("timed out while it was sending")
    return b"".join(parts)


def _seconds(header: str | None) -> float:
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        return 0.0


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, Mapping) else None
    return value if isinstance(value, int) and value >= 0 else 0
