"""Tool calls, tools, reasoning and marks of training reach the template and the mask."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgetune.data.build_encoder import make_encoder
from edgetune.data.contract import load_encoder, read_contract, write_contract
from edgetune.data.dataset.make import load_splits
from edgetune.data.encode import Encoder
from edgetune.data.encode_rows import encode_rows
from edgetune.data.rows import Row
from edgetune.data.shapes import make_row
from edgetune.data.split import prompt_key
from edgetune.errors import InputError
from edgetune.log import Log
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.recipe import DataSection

QUIET = Log(quiet=True)
SECTION = DataSection(train="-")
END = "<|im_end|>"
# In the manner of Qwen 2.5: tools in a system block, calls as JSON in tags.
TOOLS = (
    "{%- if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}"
    "<|im_end|>\n{% endif %}"
    "{%- for m in messages %}"
    "{%- if m.role == 'assistant' and m.tool_calls %}<|im_start|>assistant"
    "{% if m.content %}{{ '\n' + m.content }}{% endif %}"
    "{% for call in m.tool_calls %}{% if call.function %}{% set call = call.function %}{% endif %}"
    '{{ \'\n<tool_call>\n{"name": "\' + call.name + \'", "arguments": \' }}'
    "{{ call.arguments | tojson }}{{ '}\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}"
    "{%- elif m.role == 'tool' %}{{ '<|im_start|>user\n<response>' + m.content + '</response>' }}"
    "{{ '<|im_end|>\n' }}"
    "{%- else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# In the manner of Qwen 3: thoughts of the last answer are shown, and those of earlier ones not.
THINK = (
    "{%- for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{%- if m.role == 'assistant' and loop.last %}"
    "{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SCHEMA = {"type": "function", "function": {"name": "sky", "parameters": {"type": "object"}}}


def call(arguments: Any, name: str = "sky") -> list[dict[str, Any]]:
    return [{"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}]


@pytest.fixture
def encoder(tiny_model: Path) -> Encoder:
    return make_encoder(load_tokenizer(tiny_model), SECTION, None)


def with_template(encoder: Encoder, template: str) -> Encoder:
    encoder.tokenizer.chat_template = template
    return encoder


def parts(encoder: Encoder, row: Row) -> tuple[str, list[str]]:
    """The whole text, and each trained stretch of it."""
    coded = encoder.encode(row)
    stretches: list[list[int]] = [[]]
    for id, trained in zip(coded.ids, coded.trained, strict=True):
        if trained:
            stretches[-1].append(id)
        elif stretches[-1]:
            stretches.append([])
    decode = encoder.tokenizer.decode
    return str(decode(list(coded.ids))), [str(decode(one)) for one in stretches if one]


def check_oracle(encoder: Encoder, row: Row, turns: Any, tools: Any = None) -> list[str]:
    """The text is transformers' own; return what trains of it."""
    text, trained = parts(encoder, row)
    wanted = encoder.tokenizer.apply_chat_template(turns, tools=tools, tokenize=False)
    assert text == wanted.rstrip("\n")
    return trained


ROUND = [
    {"role": "user", "content": "Oslo?"},
    {"role": "assistant", "content": None, "tool_calls": call({"city": "Oslo"})},
    {"role": "tool", "tool_call_id": "c1", "name": "sky", "content": ""},
    {"role": "assistant", "content": "Clear."},
    {"role": "user", "content": "Rome?"},
    {"role": "assistant", "content": "Let me look.", "tool_calls": call({"city": "Røm"})},
]
SAID = [
    '<tool_call>\n{"name": "sky", "arguments": {"city": "Oslo"}}\n</tool_call>' + END,
    "Clear." + END,
    'Let me look.\n<tool_call>\n{"name": "sky", "arguments": {"city": "Røm"}}\n</tool_call>' + END,
]


def test_calls_and_tools_are_what_transformers_writes(encoder: Encoder) -> None:
    encoder = with_template(encoder, TOOLS)
    row = make_row({"messages": ROUND, "tools": [SCHEMA]}, "messages", "here")
    assert check_oracle(encoder, row, ROUND, [SCHEMA]) == SAID
    assert encoder.answer_text(row) == SAID[2].removesuffix(END)
    as_text = make_row({"messages": ROUND, "tools": json.dumps([SCHEMA])}, "messages", "here")
    assert as_text == row
    absent = [{k: v for k, v in turn.items() if v is not None} for turn in ROUND]
    missing = make_row({"messages": absent, "tools": [SCHEMA]}, "messages", "here")
    assert encoder.encode(missing) == encoder.encode(row)


def test_arguments_that_come_as_text_are_objects(encoder: Encoder) -> None:
    encoder = with_template(encoder, TOOLS)
    turns = [ROUND[0], {"role": "assistant", "tool_calls": call('{"city":"Oslo"}')}]
    row = make_row({"messages": turns}, "messages", "here")
    assert parts(encoder, row)[1] == SAID[:1]
    asks = TOOLS.replace(
        "{{ call.arguments | tojson }}",
        "{% if call.arguments is string %}{{ call.arguments }}{% else %}-{% endif %}",
    )
    assert '"arguments": {"city":"Oslo"}' in parts(with_template(encoder, asks), row)[1][0]


def test_half_a_character_in_arguments_stays_as_it_is_written(encoder: Encoder) -> None:
    turns = [ROUND[0], {"role": "assistant", "tool_calls": call('{"a": "\\ud83d"}')}]
    row = make_row({"messages": turns}, "messages", "here")
    assert "ud83d" in parts(with_template(encoder, TOOLS), row)[1][0]


def test_other_ways_to_write_the_same_round(encoder: Encoder) -> None:
    encoder = with_template(encoder, TOOLS)
    wanted = encoder.encode(make_row({"messages": ROUND[:4], "tools": [SCHEMA]}, "messages", "x"))
    told = {"name": "sky", "arguments": {"city": "Oslo"}}
    legacy = [
        ROUND[0],
        {
            "role": "assistant",
            "content": None,
            "function_call": {**told, "arguments": '{"city": "Oslo"}'},
        },
        {"role": "function", "name": "sky", "content": ""},
        ROUND[3],
    ]
    sharegpt = [
        {"from": "human", "value": "Oslo?"},
        {"from": "function_call", "value": json.dumps(told)},
        {"from": "observation", "value": ""},
        {"from": "gpt", "value": "Clear."},
    ]
    bare = [SCHEMA["function"]]
    for value, format in (
        ({"messages": legacy, "functions": bare}, "messages"),
        ({"conversations": sharegpt, "tools": json.dumps(bare)}, "sharegpt"),
        ({"conversations": sharegpt, "tools": [SCHEMA]}, "sharegpt"),
        ({"prompt": ROUND[:3], "completion": [ROUND[3]], "tools": [SCHEMA]}, "prompt_completion"),
    ):
        assert encoder.encode(make_row(value, format, "x")) == wanted


def test_calls_that_the_template_leaves_out_are_refused(encoder: Encoder) -> None:
    row = make_row({"messages": ROUND}, "messages", "here")
    plain = make_row({"messages": [ROUND[0], ROUND[3]]}, "messages", "here")
    with pytest.raises(InputError, match="does not show the tool calls"):
        encode_rows(encoder, [plain, row], QUIET)
    assert encode_rows(encoder, [plain, row], QUIET, on_bad_row="skip").rows == [plain]


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_is_part_of_the_answer_where_it_is_shown(encoder: Encoder, key: str) -> None:
    encoder = with_template(encoder, THINK)
    turns = [
        {"role": "user", "content": "1"}, {"role": "assistant", "content": "one", key: "early"},
        {"role": "user", "content": "2"}, {"role": "assistant", "content": "two", key: "late"},
    ]  # fmt: skip
    row = make_row({"messages": turns}, "messages", "here")
    known = [{**t, "reasoning_content": t[key]} if key in t else t for t in turns]
    trained = check_oracle(encoder, row, known)
    assert trained == ["one" + END, "<think>\nlate\n</think>\n\ntwo" + END]
    opened = THINK.replace("assistant\n' }}{% endif", "assistant\n<think>\n' }}{% endif")
    trained = check_oracle(with_template(encoder, opened), row, known)
    assert trained == ["one" + END, "late\n</think>\n\ntwo" + END]
    closed = THINK.replace(
        "assistant\n' }}{% endif", "assistant\n<think>\n\n</think>\n\n' }}{% endif"
    )
    trained = check_oracle(with_template(encoder, closed), row, known)
    assert trained == ["one" + END, "late\n</think>\n\ntwo" + END]


def test_keys_that_the_template_does_not_read_are_reported(
    encoder: Encoder, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = [
        {"role": "user", "content": "1", "name": "ann"},
        {"role": "assistant", "content": "one", "reasoning_content": "early"},
    ]
    row = make_row({"messages": turns, "tools": [SCHEMA]}, "messages", "here")
    facts = encode_rows(encoder, [row], Log()).facts
    assert facts["keys_unused"] == {"name": 1, "reasoning_content": 1, "tools": 1}
    assert "turn keys not used" in capsys.readouterr().err
    bare = make_row(
        {
            "messages": [{**t, "name": None} for t in turns[:1]]
            + [{"role": "assistant", "content": "one"}]
        },
        "messages",
        "here",
    )
    assert encoder.encode(row) == encoder.encode(bare)


@pytest.mark.parametrize(
    "mark",
    [{"weight": 0}, {"weight": 0.0}, {"train": False}, {"training": False}, {"loss": False}],
)
def test_turns_that_are_context_do_not_train(encoder: Encoder, mark: dict[str, Any]) -> None:
    turns = [
        {"role": "user", "content": "1"}, {"role": "assistant", "content": "WRONG", **mark},
        {"role": "user", "content": "2"}, {"role": "assistant", "content": "two", "weight": 1},
        {"role": "user", "content": "3"}, {"role": "assistant", "content": "WORSE", **mark},
    ]  # fmt: skip
    row = make_row({"messages": turns}, "messages", "here")
    assert len(row.messages) == 4 and row.answer == "two"
    text, trained = parts(encoder, row)
    assert "WRONG" in text and trained == ["two" + END]
    tools = make_row({"messages": turns, "tools": [SCHEMA]}, "messages", "here")
    assert parts(with_template(encoder, TOOLS), tools)[1] == ["two" + END]
    with pytest.raises(InputError, match="no assistant turn trains"):
        make_row({"messages": turns[:2]}, "messages", "here")


@pytest.mark.parametrize(
    ("turn", "fault"),
    [
        ({"content": "a", "weight": 0.5}, "weight 0.5"),
        ({"content": "a", "train": "no"}, "neither true nor false"),
        ({"content": "a", "train_detail": [{"train": False}]}, "whole turns only"),
        ({"content": "a", "tool_calls": 3}, "not a list of calls"),
        ({"content": "a", "tool_calls": "[{"}, "not JSON"),
        ({"content": None}, "null"),
        ({"content": ""}, "empty"),
    ],
)
def test_turns_that_cannot_be_meant(turn: dict[str, Any], fault: str) -> None:
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", **turn}]
    with pytest.raises(InputError, match=fault):
        make_row({"messages": messages}, "messages", "here")


def test_what_nests_too_deeply_or_is_half_a_character_is_a_bad_row() -> None:
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    for arguments, fault in (
        (deep, "nested"),
        ('{"a": "\\ud83d"}', None),
        ({"\ud83d": 1}, "surrogate"),
    ):
        messages = [
            {"role": "user", "content": "q"},
            {"role": "assistant", "tool_calls": call(arguments)},
        ]
        if fault:
            with pytest.raises(InputError, match=fault):
                make_row({"messages": messages}, "messages", "here")


def test_empty_system_turns_and_histories(encoder: Encoder) -> None:
    turns = [{"role": "system", "content": ""}, {"role": "user", "content": "q"}]
    turns += [{"role": "assistant", "content": "a"}]
    assert check_oracle(encoder, make_row({"messages": turns}, "messages", "x"), turns) == [
        "a" + END
    ]
    value = {"instruction": "3", "input": "x", "output": "c", "history": [["1", "a"], ["2", "b"]]}
    row = make_row({**value, "system": "s"}, "instruction", "here")
    assert [m.content for m in row.messages] == ["s", "1", "a", "2", "b", "3\nx", "c"]
    assert parts(encoder, row)[1] == ["a" + END, "b" + END, "c" + END]
    with pytest.raises(InputError, match="history"):
        make_row({**value, "history": ["1"]}, "instruction", "here")


def test_rows_that_differ_in_a_call_are_not_the_same() -> None:
    def asked(city: str, tools: Any = None) -> Row:
        turns = [ROUND[0], {**ROUND[1], "tool_calls": call({"city": city})}, *ROUND[2:4]]
        return make_row({"messages": turns, "tools": tools}, "messages", "here")

    keys = {
        prompt_key(asked("Oslo")),
        prompt_key(asked("Rome")),
        prompt_key(asked("Oslo", [SCHEMA])),
    }
    assert len(keys) == 3
    assert len({asked("Oslo"), asked("Oslo")}) == 1


def test_the_contract_keeps_tools_and_calls(encoder: Encoder, tmp_path: Path) -> None:
    encoder = with_template(encoder, TOOLS)
    row = make_row({"messages": ROUND, "tools": [SCHEMA]}, "messages", "here")
    write_contract(encoder, [row], tmp_path)
    golden = read_contract(tmp_path)["golden_tools"]
    assert golden[0]["tools"] == [SCHEMA]
    assert golden[0]["messages"][1]["tool_calls"] == ROUND[1]["tool_calls"]
    assert load_encoder(tmp_path, 1024).encode(row) == encoder.encode(row)
    template = tmp_path / "chat_template.jinja"
    template.write_text(template.read_text().replace("<tool_call>", "<call>"))
    with pytest.raises(InputError, match="renders another text"):
        load_encoder(tmp_path, 1024)


def test_named_templates(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    plain = str(tokenizer.chat_template)
    tokenizer.chat_template = {"default": "\n " + plain, "tool_use": TOOLS + "\n", "rag": "no"}
    tokenizer.save_pretrained(tmp_path)
    named = type(tokenizer).from_pretrained(tmp_path)
    encoder = make_encoder(load_tokenizer(tmp_path), SECTION, None)
    chat = [ROUND[0], ROUND[3], ROUND[4], ROUND[3]]
    for turns, tools in ((ROUND, [SCHEMA]), (chat, None)):
        row = make_row({"messages": turns, "tools": tools}, "messages", "here")
        for count in (len(turns) - 1, len(turns)):
            wanted = named.apply_chat_template(
                turns[:-1], tools=tools, tokenize=False, add_generation_prompt=True
            )
            assert encoder.prompt_text(row) == wanted, count
    write_contract(encoder, [row], tmp_path / "contract")
    assert load_encoder(tmp_path / "contract", 99).prompt_text(row) == encoder.prompt_text(row)
    tokenizer.chat_template = {"tool_use": TOOLS}
    tokenizer.save_pretrained(tmp_path / "none")
    with pytest.raises(InputError, match="no 'default'"):
        load_tokenizer(tmp_path / "none")


@pytest.mark.assets
@pytest.mark.parametrize("name", ["qwen2.5", "minimind-6400"])
def test_glaive_on_real_templates(assets: Path, tmp_path: Path, name: str) -> None:
    import gzip

    folder = assets / "tokenizers" / name
    for file in folder.iterdir():
        content = file.read_bytes()
        content = gzip.decompress(content) if file.suffix == ".gz" else content
        (tmp_path / file.name.removesuffix(".gz")).write_bytes(content)
    path = assets / "data/llamafactory-demo/glaive_toolcall_en_demo.json"
    section = DataSection(train=str(path), max_length=100_000, on_bad_row="skip")
    encoder = replace(make_encoder(load_tokenizer(tmp_path), section, None), embedding_rows=None)
    rows = load_splits(section, 0, QUIET).train[:60]
    if name == "qwen2.5":  # these files carry a template of roles and contents
        plain = [row for row in rows if '"tool_calls"' not in "".join(m.more for m in row.messages)]
        assert 0 < len(plain) < len(rows)
        assert encode_rows(encoder, rows, QUIET, on_bad_row="skip").rows == plain
        encoder = with_template(encoder, TOOLS)
    prepared = encode_rows(encoder, rows, QUIET)
    calls = 0
    for row, coded in zip(prepared.rows, prepared.encoded, strict=True):
        turns = [message.as_turn() for message in row.messages]
        wanted = encoder.tokenizer.apply_chat_template(
            turns, tools=json.loads(row.tools) if row.tools else None, tokenize=False
        )
        assert encoder.tokenizer.decode(list(coded.ids)) == wanted.rstrip("\n")
        ids = [id for id, t in zip(coded.ids, coded.trained, strict=True) if t]
        said = encoder.tokenizer.decode(ids)
        for message in row.messages:
            if message.role == "assistant":
                assert message.content in said
                for one in message.as_turn().get("tool_calls", ()):
                    calls += 1
                    assert f'{{"name": "{one["function"]["name"]}"' in said
            elif message.role == "tool":
                assert message.content not in said
    assert calls > 20
