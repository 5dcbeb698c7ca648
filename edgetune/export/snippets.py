"""How each client asks an exported file: one snippet a client, with paths from the export folder.

Those in Python are run by ``tests/export/test_readme.py``, those of JavaScript's clients are what
``bench/clients`` does with fifty prompts.
"""

from __future__ import annotations

import json
import pprint
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

Turn = dict[str, str]


@dataclass(frozen=True)
class Snippet:
    """What a person copies.

    Attributes:
        client: its name.
        language: of the code: ``sh``, ``python`` or ``js``.
        code: the snippet.
        install: how the client is had.
        note: what to know about it, or nothing.
    """

    client: str
    language: str
    code: str
    install: str
    note: str = ""


@dataclass(frozen=True)
class Question:
    """A conversation to ask, and how.

    Attributes:
        messages: ``{"role", "content"}``; the last is the user's.
        context: tokens of prompt and answer together.
        answer: tokens of the answer, at most.
    """

    messages: Sequence[Turn]
    context: int
    answer: int

    @property
    def system(self) -> str:
        """The system message, empty where there is none."""
        return "".join(turn["content"] for turn in self.messages if turn["role"] == "system")

    @property
    def prompt(self) -> str:
        """The last message."""
        return self.messages[-1]["content"]


def gguf_snippets(path: str, modelfile: str | None, question: Question) -> list[Snippet]:
    """Return the snippets for a GGUF file.

    Args:
        path: of the file, from the export folder.
        modelfile: beside it, if there is one.
        question: the conversation.
    """
    body = json.dumps({"messages": list(question.messages), "temperature": 0}, ensure_ascii=False)
    system = f" -sys {shlex.quote(question.system)}" if question.system else ""
    name = PurePosixPath(path).stem.lower()
    found = [
        Snippet(
            "llama.cpp's server",
            "sh",
            f"llama-server -m {path} --port 8080\n"
            "curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' "
            f"\\\n  -d {shlex.quote(body)}",
            "https://github.com/ggml-org/llama.cpp",
        ),
        Snippet(
            "llama.cpp on the command line",
            "sh",
            f"llama-cli -m {path} -st --temp 0{system} -p {shlex.quote(question.prompt)}",
            "https://github.com/ggml-org/llama.cpp",
        ),
        Snippet("llama-cpp-python", "python", _LLAMA_CPP_PYTHON.format(
            path=path, messages=_python(question.messages), context=question.context,
            answer=question.answer,
        ), "pip install llama-cpp-python"),
        Snippet("node-llama-cpp", "js", _NODE_LLAMA_CPP.format(
            path=path, system=_js(question.system), prompt=_js(question.prompt),
            answer=question.answer,
        ), "npm install node-llama-cpp",
            "Without `systemPrompt` it puts a system message of its own before every conversation.",
        ),
        Snippet("wllama, in a browser", "js", _WLLAMA.format(
            path=path, messages=_js(list(question.messages)), answer=question.answer
        ), "npm install @wllama/wllama",
            "The page's server has to serve this folder and `node_modules`.",
        ),
    ]  # fmt: skip
    if modelfile:
        lines = (
            f"ollama create {name} -f {modelfile}\nollama run {name} {shlex.quote(question.prompt)}"
        )
        found.insert(
            3,
            Snippet(
                "Ollama", "sh", lines, "https://ollama.com",
                "The Modelfile holds template, end tokens and temperature 0.",
            ),
        )  # fmt: skip
    return found


def onnx_snippets(path: str, question: Question) -> list[Snippet]:
    """Return the snippets for an ONNX folder.

    Args:
        path: of the folder, from the export folder.
        question: the conversation.
    """
    parts = {"path": path, "answer": question.answer}
    python = parts | {"messages": _python(question.messages), "context": question.context}
    js = parts | {"messages": _js(list(question.messages))}
    return [
        Snippet(
            "onnxruntime-genai", "python", _GENAI.format(**python), "pip install onnxruntime-genai"
        ),
        Snippet(
            "optimum, with transformers 4", "python", _OPTIMUM.format(**python),
            "pip install optimum-onnx 'transformers<5' onnxruntime",
        ),
        Snippet(
            "transformers.js in Node", "js", _NODE.format(**js),
            "npm install @huggingface/transformers",
        ),
        Snippet(
            "transformers.js in a browser", "js", _BROWSER.format(**js),
            "npm install @huggingface/transformers",
            "The page's server has to serve this folder and `node_modules`. ONNX Runtime's build "
            "named here is half as large as the default one, for WebGPU, and also has the "
            "GatherBlockQuantized that looks up an embedding of 2 or 4 bits.",
        ),
    ]  # fmt: skip


def adapter_snippet(path: str, question: Question, over: str | None = None) -> Snippet:
    """Return how llama.cpp puts an adapter over a GGUF file of the base.

    ``over`` is the file that it was trained over; without one, any file of the base will do.
    """
    file = "BASE.gguf" if over is None else shlex.quote(over)
    return Snippet(
        f"the adapter alone, over {'a GGUF file of its base' if over is None else over}",
        "sh",
        f"llama-cli -m {file} --lora {path} -st --temp 0 -p {shlex.quote(question.prompt)}",
        "https://github.com/ggml-org/llama.cpp",
    )


def _python(messages: Sequence[Turn]) -> str:
    return pprint.pformat(list(messages), width=90, sort_dicts=False)


def _js(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


_LLAMA_CPP_PYTHON = """\
from llama_cpp import Llama

messages = {messages}
model = Llama("{path}", n_ctx={context}, verbose=False)
answer = model.create_chat_completion(messages, temperature=0, max_tokens={answer})
print(answer["choices"][0]["message"]["content"])
model.close()"""
_NODE_LLAMA_CPP = """\
import {{getLlama, LlamaChatSession}} from "node-llama-cpp";

const llama = await getLlama();
const model = await llama.loadModel({{modelPath: "{path}"}});
const context = await model.createContext();
const session = new LlamaChatSession({{
  contextSequence: context.getSequence(), systemPrompt: {system},
}});
console.log(await session.prompt({prompt}, {{temperature: 0, maxTokens: {answer}}}));
await llama.dispose();"""
_WLLAMA = """\
import {{Wllama}} from "/node_modules/@wllama/wllama/esm/index.js";

const wllama = new Wllama({{default: "/node_modules/@wllama/wllama/esm/wasm/wllama.wasm"}});
await wllama.loadModelFromUrl(new URL("/{path}", location.href).href);
const answer = await wllama.createChatCompletion({{
  messages: {messages}, max_tokens: {answer}, temperature: 0,
}});
console.log(answer.choices[0].message.content);"""
_GENAI = """\
import json
import onnxruntime_genai as og

messages = {messages}
model = og.Model("{path}")
tokenizer = og.Tokenizer(model)
prompt = tokenizer.apply_chat_template(json.dumps(messages), add_generation_prompt=True)
ids = tokenizer.encode(prompt)
settings = og.GeneratorParams(model)
settings.set_search_options(max_length=len(ids) + {answer}, do_sample=False)
generator = og.Generator(model, settings)
generator.append_tokens(ids)
stream = tokenizer.create_stream()
while not generator.is_done():
    generator.generate_next_token()
    print(stream.decode(generator.get_next_tokens()[0]), end="", flush=True)
print()"""
_OPTIMUM = """\
from optimum.onnxruntime import ORTModelForCausalLM
from transformers import AutoTokenizer

messages = {messages}
tokenizer = AutoTokenizer.from_pretrained("{path}")
model = ORTModelForCausalLM.from_pretrained("{path}")
prompt = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
answer = model.generate(**prompt, max_new_tokens={answer}, do_sample=False)[0]
print(tokenizer.decode(answer[prompt["input_ids"].shape[1]:], skip_special_tokens=True))"""
_NODE = """\
import {{env, pipeline}} from "@huggingface/transformers";

env.allowRemoteModels = false;
env.localModelPath = "./";
const generate = await pipeline("text-generation", "{path}");
const [answer] = await generate({messages}, {{max_new_tokens: {answer}, do_sample: false}});
console.log(answer.generated_text.at(-1).content);"""
_BROWSER = """\
import {{env, pipeline}} from "/node_modules/@huggingface/transformers/dist/transformers.min.js";

env.allowRemoteModels = false;
env.allowLocalModels = true;
env.localModelPath = "/";
const build = "/node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded";
env.backends.onnx.wasm.wasmPaths = {{mjs: `${{build}}.mjs`, wasm: `${{build}}.wasm`}};
const generate = await pipeline("text-generation", "{path}", {{device: "wasm"}});
const [answer] = await generate({messages}, {{max_new_tokens: {answer}, do_sample: false}});
console.log(answer.generated_text.at(-1).content);"""
