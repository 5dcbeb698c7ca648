"""lm-eval's requests: the model ``edgetune`` answers as lm-eval's own ``hf`` does."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from edgetune.errors import InputError
from edgetune.lm_eval.model import EdgetuneLM
from edgetune.runtimes import likelihood
from tests.model_files import make_gguf, make_onnx

TEXT = "turn the light in the kitchen to forty percent"
CHAT = [{"role": "system", "content": "You call."}, {"role": "user", "content": TEXT}]
PAIRS = [
    (TEXT, " now"),
    (TEXT, " light"),
    (f"{TEXT}  ", "now"),  # white space that goes to the continuation
    ("", TEXT),  # no context: the prefix token stands for it
    (f"<|im_end|>{TEXT}", " light.set"),  # begins with the prefix token
    (f"{TEXT} " * 40, TEXT),  # cut from the left
]


def ask(kind: str, *requests: Any) -> list[Instance]:
    return [Instance(kind, {}, one, number) for number, one in enumerate(requests)]


@pytest.fixture(scope="module")
def hf(tiny_model: Path) -> HFLM:
    return HFLM(pretrained=str(tiny_model), device="cpu", dtype="float32", max_length=96)


@pytest.fixture(scope="module", params=["gguf", "onnx", "hf"])
def model(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[EdgetuneLM]:
    make = {"gguf": make_gguf, "onnx": make_onnx, "hf": lambda folder: folder}
    path = make[request.param](tiny_model)
    opened = EdgetuneLM(path=str(path), threads=1, max_length=96, batch_size=1, device="cpu")
    yield opened
    opened.close()


def test_likelihoods_equal_those_of_hf(model: EdgetuneLM, hf: HFLM) -> None:
    asked = ask("loglikelihood", *PAIRS)
    found, wanted = model.loglikelihood(asked, True), hf.loglikelihood(asked, True)
    assert np.allclose([x for x, _ in found], [x for x, _ in wanted], atol=1e-4, rtol=0)
    assert [x for _, x in found] == [x for _, x in wanted]


def test_the_options_of_a_question_share_its_context(
    model: EdgetuneLM, hf: HFLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the requests that are scored together would end between them."""
    monkeypatch.setattr("edgetune.lm_eval.model.TOGETHER", 3)
    asked_together: list[list[int]] = []
    score = likelihood.score_continuations

    def spy(runtime: Any, requests: Any) -> Any:
        asked_together.append([len({tuple(context) for context, _ in requests}), len(requests)])
        return score(runtime, requests)

    monkeypatch.setattr("edgetune.lm_eval.model.score_continuations", spy)
    options = [" now", " light", " light in the hall", " to forty percent", " off"]
    pairs = [(context, option) for context in (TEXT, "turn", f"{TEXT}. " * 4) for option in options]
    asked = ask("loglikelihood", *pairs)
    found, wanted = model.loglikelihood(asked, True), hf.loglikelihood(asked, True)
    assert np.allclose([x for x, _ in found], [x for x, _ in wanted], atol=1e-4, rtol=0)
    assert [x for _, x in found] == [x for _, x in wanted]
    assert asked_together == [[1, 5]] * 3


def test_rolling_windows_equal_those_of_hf(model: EdgetuneLM, hf: HFLM) -> None:
    asked = ask("loglikelihood_rolling", ("",), ("a",), (TEXT,), (f"{TEXT}. " * 30,))
    found = model.loglikelihood_rolling(asked, True)
    assert np.allclose(found, hf.loglikelihood_rolling(asked, True), atol=1e-4, rtol=0)
    assert found[0] == 0.0 > found[3]


def test_answers_equal_those_of_hf(model: EdgetuneLM, hf: HFLM) -> None:
    plain = {"until": [], "max_gen_toks": 40, "do_sample": False}
    whole = hf.generate_until(ask("generate_until", (TEXT, plain)), True)[0]
    stop = whole[len(whole) // 2 :][:2]
    asked = ask(
        "generate_until",
        (TEXT, plain),
        (TEXT, {"until": [stop, "qq"], "max_gen_toks": 40}),
        (TEXT, {"until": stop, "max_gen_toks": 3}),
        (f"{TEXT} " * 40, {"until": ["\n\n"], "max_gen_toks": 20, "temperature": 0.0}),
    )
    found = model.generate_until(asked, True)
    assert found == hf.generate_until(asked, True)
    assert found[1] == whole.split(stop)[0] != whole


def test_chats_equal_those_of_hf(model: EdgetuneLM, hf: HFLM) -> None:
    assert model.apply_chat_template(CHAT) == hf.apply_chat_template(CHAT)
    prefill = [*CHAT, {"role": "assistant", "content": '{"call":'}]
    text = model.apply_chat_template(prefill, add_generation_prompt=False)
    assert text == hf.apply_chat_template(prefill, add_generation_prompt=False)
    assert model.chat_template(True) == hf.chat_template(True)
    assert model.chat_template(False) is None
    with pytest.raises(InputError, match="no chat template of the name 'rag'"):
        model.chat_template("rag")


def test_special_tokens_equal_those_of_hf(model: EdgetuneLM, hf: HFLM) -> None:
    assert model.eot_token_id == hf.eot_token_id
    assert model.prefix_token_id == hf.prefix_token_id
    assert model.tok_encode(TEXT, add_special_tokens=False) == hf.tok_encode(TEXT)


def test_what_is_not_greedy_is_refused(model: EdgetuneLM) -> None:
    for settings in ({"do_sample": True, "temperature": 0.8}, {"temperature": 0.8}):
        with pytest.raises(InputError, match="the task samples its answers"):
            model.generate_until(ask("generate_until", (TEXT, settings)), True)
    with pytest.raises(InputError, match="'num_beams' is not supported"):
        model.generate_until(ask("generate_until", (TEXT, {"num_beams": 4})), True)
    with pytest.raises(InputError, match="200 new tokens leave no room"):
        model.generate_until(ask("generate_until", (TEXT, {"max_gen_toks": 200})), True)


def test_what_is_unknown_is_refused(tiny_model: Path) -> None:
    with pytest.raises(InputError, match=r"no argument 'max_lenght' \(did you mean 'max_length'"):
        EdgetuneLM(path=str(tiny_model), max_lenght=3)
    with pytest.raises(InputError, match="path is missing"):
        EdgetuneLM(batch_size=1)
    with pytest.raises(InputError, match="no device 'tpu'"):
        EdgetuneLM(path=str(tiny_model), device="tpu")
    with pytest.raises(InputError, match="max_length 'long' is no number of tokens"):
        EdgetuneLM(path=str(tiny_model), max_length="long")


def test_entry_point_names_the_model() -> None:
    """What releases of lm-eval after 0.4.13 read; the registry holds the same class."""
    from lm_eval.api.registry import get_model

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    named = project["project"]["entry-points"]["lm_eval.models"]
    assert named == {"edgetune": f"{EdgetuneLM.__module__}:{EdgetuneLM.__name__}"}
    assert get_model("edgetune") is EdgetuneLM
