"""An endpoint is asked within bounds: attempts, time, size, requests; the key stays secret."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from edgetune.data.rows import Message
from edgetune.errors import InputError
from edgetune.recipe import DataSection, SynthesizeSection
from edgetune.synthesize import endpoint
from edgetune.synthesize.address import check_address
from edgetune.synthesize.endpoint import SPENT, EndpointTeacher
from edgetune.synthesize.teacher import CUT_OFF, EMPTY, Question
from tests.synthesize.servers import completion, serve

KEY = "sk-very-secret-1234"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint.time, "sleep", lambda _: None)


def make(address: str, **settings: Any) -> EndpointTeacher:
    section = SynthesizeSection(endpoint=address, model="m", **settings)
    return EndpointTeacher(section, DataSection(train="rows.jsonl", system="Be brief."))


def ask(teacher: EndpointTeacher, *texts: str) -> list[Any]:
    turns = [teacher.with_system([Message("user", text)]) for text in texts]
    return teacher.ask([Question(one, 5, 0.7) for one in turns])


def test_questions_are_answered_in_order_with_system_and_settings() -> None:
    asked: list[dict[str, Any]] = []

    def answer(body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any]:
        asked.append(body)
        assert headers["path"] == "/v1/chat/completions" and "Authorization" not in headers
        return 200, completion(f" {body['messages'][-1]['content'].upper()} ")

    with serve(answer) as address:
        teacher = make(address, max_new_tokens=9)
        replies = ask(teacher, "a", "b", "c", "d", "e", "f")
    assert [reply.text for reply in replies] == ["A", "B", "C", "D", "E", "F"]
    assert asked[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (asked[0]["model"], asked[0]["max_tokens"], asked[0]["seed"]) == ("m", 9, 5)
    assert asked[0]["temperature"] == 0.7 and asked[0]["top_p"] == 0.95
    used = teacher.usage
    assert (used.calls, used.prompt_tokens, used.generated_tokens) == (6, 42, 18)


def test_failed_requests_are_repeated() -> None:
    left = iter([500, 429, 503])

    def answer(body: dict[str, Any], _: dict[str, str]) -> tuple[int, Any]:
        return (status, b"busy") if (status := next(left, 0)) else (200, completion("yes"))

    with serve(answer) as address:
        teacher = make(address, retries=3, concurrency=1)
        assert ask(teacher, "a")[0].text == "yes"
    assert teacher.usage.calls == 4


def test_attempts_are_bounded_and_the_last_fault_is_told() -> None:
    with serve(lambda *_: (503, b"overloaded")) as address:
        teacher = make(address, retries=2)
        with pytest.raises(InputError, match="after 3 attempts: HTTP 503: overloaded"):
            ask(teacher, "a")
    assert teacher.usage.calls == 3


def test_a_server_that_is_down_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        teacher = make(f"http://127.0.0.1:{taken.getsockname()[1]}/v1", retries=1)
        with pytest.raises(InputError, match="does not answer after 2 attempts"):
            ask(teacher, "a")


@pytest.mark.parametrize("status", [400, 401, 404, 302])
def test_a_refusal_is_not_repeated_nor_a_redirect_followed(status: int) -> None:
    asked = []

    def answer(body: dict[str, Any], _: dict[str, str]) -> tuple[int, Any]:
        asked.append(body)
        return status, b"http://127.0.0.1:9/elsewhere"

    refused = pytest.raises(InputError, match=f"refuses the request: HTTP {status}")
    with serve(answer) as address, refused:
        ask(make(address), "a")
    assert len(asked) == 1


GARBAGE = {
    "no JSON": b"<html>hello</html>",
    "no choices": {"object": "error"},
    "a list": [],
    "null content": completion(None),
    "half a character": b'{"choices": [{"message": {"content": "\\ud83d"}}]}',
    "nested": b"[" * 100_000,
}


@pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_a_fault_of_its_row(body: Any) -> None:
    def answer(asked: dict[str, Any], _: dict[str, str]) -> tuple[int, Any]:
        return 200, body if asked["messages"][-1]["content"] == "bad" else completion("ok")

    with serve(answer) as address:
        good, bad = ask(make(address, retries=1), "good", "bad")
    assert good.text == "ok" and bad.fault.startswith("the endpoint returned")


def test_a_server_that_returns_nothing_but_garbage_ends_the_work() -> None:
    ended = pytest.raises(InputError, match="the endpoint returned no JSON")
    with serve(lambda *_: (200, b"hello")) as address, ended:
        ask(make(address, retries=0), "a", "b")


def test_too_long_a_response_is_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "MOST_BYTES", 1000)
    with serve(lambda *_: (200, completion("x" * 5000))) as address:
        assert "more than" in ask(make(address, retries=0), "a")[0].fault


def test_a_response_that_drips_runs_out_of_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                began = time.monotonic()
                while time.monotonic() - began < 5:
                    try:
                        connection.sendall(b" ")
                    except OSError:
                        return
                    threading.Event().wait(0.02)

        thread = threading.Thread(target=drip)
        thread.start()
        began = time.monotonic()
        teacher = make(f"http://127.0.0.1:{server.getsockname()[1]}", timeout=0.3, retries=0)
        with pytest.raises(InputError, match="timed out"):
            ask(teacher, "a")
        assert time.monotonic() - began < 3
        thread.join()


def test_cut_off_and_empty_answers_are_faults() -> None:
    with serve(lambda *_: (200, completion("so", finish_reason="length"))) as address:
        assert ask(make(address), "a")[0].fault == CUT_OFF
    with serve(lambda *_: (200, completion("  "))) as address:
        assert ask(make(address), "a")[0].fault == EMPTY


def test_requests_are_limited_retries_included() -> None:
    answers = iter([(500, b""), (200, completion("one")), (200, completion("two"))])
    with serve(lambda *_: next(answers)) as address:
        teacher = make(address, max_requests=3, concurrency=1)
        texts = [reply.text or reply.fault for reply in ask(teacher, "a", "b", "c", "d")]
    assert texts == ["one", "two", SPENT, SPENT]


def test_the_key_is_sent_and_stands_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    seen = []

    def answer(_: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any]:
        seen.append(headers.get("Authorization"))
        return 401, f"bad key {KEY}".encode()

    with serve(answer) as address:
        teacher = make(address, key_env="TEST_KEY")
        with pytest.raises(InputError, match=r"bad key \[key\]") as caught:
            ask(teacher, "a")
    assert seen == [f"Bearer {KEY}"]
    shown = f"{caught.value} {caught.value.__cause__} {caught.value.__context__} {teacher.origin}"
    assert KEY not in shown


def test_a_key_that_is_not_set_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_KEY", raising=False)
    with pytest.raises(InputError, match="TEST_KEY is not set"):
        make("http://127.0.0.1:9", key_env="TEST_KEY")
    monkeypatch.setenv("TEST_KEY", "a\r\nX: y")
    with pytest.raises(InputError, match="no key of a server") as caught:
        make("http://127.0.0.1:9", key_env="TEST_KEY")
    assert "X: y" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["file:///etc/passwd", "localhost:8080", "http://", "http://u:p@host/v1", "http://h/v1?key=1"],
)
def test_what_is_no_address_of_a_server_is_refused(address: str) -> None:
    with pytest.raises(InputError):
        check_address(address)


def test_a_whole_address_is_taken_as_it_is() -> None:
    assert check_address("http://h/v1/chat/completions") == "http://h/v1/chat/completions"
    assert check_address("http://h/v1/") == "http://h/v1/chat/completions"
