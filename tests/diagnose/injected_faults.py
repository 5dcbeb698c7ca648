"""Faults planted into a right chain, one at a time: what other tools' users report.

Each takes the chain and a folder to write into, and returns the link it spoils (before, after) and
the fault that must be named.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetune.export.gguf.f32 import convert_gguf
from edgetune.export.gguf.header import header_of
from edgetune.export.gguf.write import Quantization, write_gguf
from edgetune.models.lora import Adapter
from edgetune.models.merge import write_merged
from edgetune.quantize.formats.ggml import quantize_tensor
from edgetune.quantize.formats.llama_quantize import stock_types
from edgetune.runtimes.gguf_header import open_gguf
from tests.tiny_models import make_adapter, make_tiny_model


@dataclass(frozen=True)
class Chain:
    """A right chain: base, adapter, merged folder, F32 and Q8_0 files."""

    family: str
    base: Path
    adapter: Path
    merged: Path
    plain: Path
    small: Path

    @property
    def trained(self) -> str:
        return f"{self.base}@original+{self.adapter}"


def make_chain(family: str, folder: Path) -> Chain:
    """Make the twin, its adapter and every file that is compared."""
    base = make_tiny_model(family, folder / "base", real_tokenizer=False)
    adapter = make_adapter(base, folder / "adapter")
    write_merged(base, [adapter], folder / "merged", "float32")
    plain, small = folder / "F32.gguf", folder / "Q8_0.gguf"
    convert_gguf(folder / "merged", plain, header_of(folder / "merged", family))
    write_gguf(open_gguf(plain), small, Quantization("Q8_0", stock_types(plain, "Q8_0").types))
    return Chain(family, base, adapter, folder / "merged", plain, small)


Planted = tuple[str, str, str, str]  # before, after, check it breaks, fault's name


def _copy(folder: Path, out: Path) -> Path:
    shutil.copytree(folder, out)
    return out


def _fold(chain: Chain, out: Path, times: Callable[[str, int], float]) -> Path:
    """Merge with each module's change taken ``times(module, index)`` times."""
    from safetensors.torch import load_file, save_file

    write_merged(chain.base, [], out, "float32")
    lora = Adapter(chain.adapter, chain.base)
    names = sorted(lora.modules)
    for shard in out.glob("*.safetensors"):
        tensors = load_file(shard)
        for index, module in enumerate(names):
            key = f"{module}.weight"
            if key in tensors:
                scale, left, right = lora.factors(module)
                tensors[key] = tensors[key] + times(module, index) * scale * (left @ right)
        save_file(tensors, shard, metadata={"format": "pt"})
    return out


def rewrite(
    source: Path,
    target: Path,
    keys: Mapping[str, Any] | None = None,
    drop: tuple[str, ...] = (),
    tensors: Mapping[str, tuple[np.ndarray, str]] | None = None,
) -> Path:
    """Write a GGUF file again with some keys and tensors changed, added or left out."""
    import gguf

    read = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, str(read.fields["general.architecture"].contents()))
    changed = dict(keys or {})
    for key, field in read.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture" or key in drop:
            continue
        value = changed.pop(key, field.contents())
        inner = field.types[-1] if field.types[1:] else None
        writer.add_key_value(key, value, field.types[0], sub_type=inner)
    assert not changed, f"no such key: {changed}"
    given = dict(tensors or {})
    for tensor in read.tensors:
        values, kind = given.pop(tensor.name, (None, ""))
        if values is None:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        else:
            _add(writer, tensor.name, values, kind)
    for name, (values, kind) in given.items():
        _add(writer, name, values, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _add(writer: Any, name: str, values: np.ndarray, kind: str) -> None:
    import gguf

    values = np.ascontiguousarray(values, np.float32)
    if kind == "F32":
        writer.add_tensor(name, values)
        return
    raw = quantize_tensor(values, kind)
    writer.add_tensor(name, raw, raw_dtype=gguf.GGMLQuantizationType[kind])


def _tensor(path: Path, name: str) -> np.ndarray:
    from edgetune.diagnose.tensors import GgufTensors

    return GgufTensors(path).read(name)


def _some(path: Path, *endings: str) -> str:
    from edgetune.diagnose.tensors import GgufTensors

    names = GgufTensors(path).entries
    return next(n for end in endings for n in names if n.startswith("blk.1") and end in n)


def _key(path: Path, *endings: str) -> tuple[str, Any]:
    from edgetune.diagnose.tensors import GgufTensors

    keys = GgufTensors(path).keys
    return next((k, v) for end in endings for k, v in keys.items() if k.endswith(end))


# --- the adapter -------------------------------------------------------------------------------


def adapter_not_applied(chain: Chain, out: Path) -> Planted:
    after = _fold(chain, out / "merged", lambda module, index: 0.0)
    return chain.trained, str(after), "weights", "adapter_not_applied"


def adapter_applied_twice(chain: Chain, out: Path) -> Planted:
    after = _fold(chain, out / "merged", lambda module, index: 2.0)
    return chain.trained, str(after), "weights", "adapter_applied_twice"


def adapter_layers_dropped(chain: Chain, out: Path) -> Planted:
    after = _fold(chain, out / "merged", lambda module, index: float(".0." not in module))
    return chain.trained, str(after), "weights", "adapter_layers_dropped"


def adapter_wrong_scale(chain: Chain, out: Path) -> Planted:
    after = _fold(chain, out / "merged", lambda module, index: 0.5)
    return chain.trained, str(after), "weights", "adapter_wrong_scale"


def merged_into_wrong_base(chain: Chain, out: Path) -> Planted:
    other = make_tiny_model(chain.family, out / "other", seed=7, real_tokenizer=False)
    write_merged(other, [chain.adapter], out / "merged", "float32")
    return chain.trained, str(out / "merged"), "weights", "merged_into_wrong_base"


def adapter_not_in_file(chain: Chain, out: Path) -> Planted:
    convert_gguf(chain.base, out / "x.gguf", header_of(chain.base, "x"))
    return chain.trained, str(out / "x.gguf"), "weights", "adapter_not_applied"


# --- the weights of the file -------------------------------------------------------------------


def rows_not_permuted(chain: Chain, out: Path) -> Planted | None:
    from edgetune.diagnose.tensor_diff import unpermute_rows

    if chain.family not in ("llama", "mistral", "granite"):
        return None  # other families' files keep Hugging Face's order
    name = _some(chain.plain, "attn_q.weight")
    _, heads = _key(chain.plain, "attention.head_count")
    values = unpermute_rows(_tensor(chain.plain, name), heads)
    after = rewrite(chain.plain, out / "x.gguf", tensors={name: (values, "F32")})
    return str(chain.merged), str(after), "weights", "rows_not_permuted"


def tensor_transposed(chain: Chain, out: Path) -> Planted:
    name = _some(chain.plain, "attn_output.weight")
    values = _tensor(chain.plain, name).T
    after = rewrite(chain.plain, out / "x.gguf", tensors={name: (values, "F32")})
    return str(chain.merged), str(after), "weights", "tensor_transposed"


def tensor_zeroed(chain: Chain, out: Path) -> Planted:
    name = _some(chain.plain, "ffn_down.weight")
    values = 0 * _tensor(chain.plain, name)
    after = rewrite(chain.plain, out / "x.gguf", tensors={name: (values, "F32")})
    return str(chain.merged), str(after), "weights", "tensor_zeroed"


def wrong_precision(chain: Chain, out: Path) -> Planted:
    name = _some(chain.small, "ffn_down.weight")
    values = _tensor(chain.plain, name)
    after = rewrite(chain.small, out / "x.gguf", tensors={name: (values, "Q4_0")})
    return str(chain.plain), str(after), "weights", "wrong_precision"


def quantized_twice(chain: Chain, out: Path) -> Planted:
    from edgetune.diagnose.tensors import GgufTensors

    plain = GgufTensors(chain.plain)
    twice = {}
    for name, entry in GgufTensors(chain.small).entries.items():
        if entry.type != "Q8_0":
            continue
        rewrite(chain.plain, out / "q4.gguf", tensors={name: (plain.read(name), "Q4_0")})
        twice[name] = (_tensor(out / "q4.gguf", name), "Q8_0")
    after = rewrite(chain.small, out / "x.gguf", tensors=twice)
    return str(chain.merged), str(after), "weights", "quantized_twice"


def head_untied(chain: Chain, out: Path) -> Planted | None:
    from edgetune.diagnose.tensors import GgufTensors

    if "output.weight" in GgufTensors(chain.plain).entries:
        return None  # not tied
    noise = np.random.default_rng(0).normal(0, 0.1, _tensor(chain.plain, "token_embd.weight").shape)
    after = rewrite(chain.plain, out / "x.gguf", tensors={"output.weight": (noise, "F32")})
    return str(chain.merged), str(after), "weights", "head_untied"


# --- metadata ----------------------------------------------------------------------------------


def _metadata(chain: Chain, out: Path, factor: float, *endings: str) -> Planted | None:
    try:
        key, value = _key(chain.plain, *endings)
    except StopIteration:
        return None
    after = rewrite(chain.plain, out / "x.gguf", {key: type(value)(value * factor)})
    return str(chain.merged), str(after), "weights", "metadata_changed"


def rope_theta_changed(chain: Chain, out: Path) -> Planted | None:
    return _metadata(chain, out, 0.01, "rope.freq_base")


def norm_epsilon_changed(chain: Chain, out: Path) -> Planted | None:
    return _metadata(chain, out, 1e4, "layer_norm_rms_epsilon", "layer_norm_epsilon")


def head_count_changed(chain: Chain, out: Path) -> Planted | None:
    keys = dict([_key(chain.plain, "attention.head_count")])
    ((name, count),) = keys.items()
    both = {name: count // 2}
    try:
        kv, groups = _key(chain.plain, "attention.head_count_kv")
        both[kv] = groups // 2
    except StopIteration:
        pass
    if any(k.endswith(("key_length", "value_length")) for k in _keys(chain.plain)):
        return None  # the file would not load: its shapes no longer agree
    after = rewrite(chain.plain, out / "x.gguf", both)
    return str(chain.merged), str(after), "weights", "metadata_changed"


def _keys(path: Path) -> dict[str, Any]:
    from edgetune.diagnose.tensors import GgufTensors

    return GgufTensors(path).keys


# --- the tokenizer -----------------------------------------------------------------------------


def pre_tokenizer_changed(chain: Chain, out: Path) -> Planted | None:
    if _keys(chain.plain).get("tokenizer.ggml.model") != "gpt2":
        return None  # SentencePiece has none
    other = "qwen2" if _keys(chain.plain)["tokenizer.ggml.pre"] != "qwen2" else "gpt-2"
    after = rewrite(chain.plain, out / "x.gguf", {"tokenizer.ggml.pre": other})
    return str(chain.merged), str(after), "tokenizer", "pre_tokenizer_changed"


def merges_truncated(chain: Chain, out: Path) -> Planted | None:
    merges = _keys(chain.plain).get("tokenizer.ggml.merges")
    if not merges:
        return None
    half = {"tokenizer.ggml.merges": merges[: len(merges) // 2]}
    after = rewrite(chain.plain, out / "x.gguf", half)
    return str(chain.merged), str(after), "tokenizer", "merges_changed"


def scores_lost(chain: Chain, out: Path) -> Planted | None:
    scores = _keys(chain.plain).get("tokenizer.ggml.scores")
    if not scores:
        return None
    flat = {"tokenizer.ggml.scores": [-1000.0] * len(scores)}
    after = rewrite(chain.plain, out / "x.gguf", flat)
    return str(chain.merged), str(after), "tokenizer", "scores_lost"


MENDED = ("<|endoftext|>", "<|im_end|>", "<|end|>", "</s>", "<eos>", "<end_of_turn>")


def special_token_demoted(chain: Chain, out: Path) -> Planted:
    types = list(_keys(chain.plain)["tokenizer.ggml.token_type"])
    words = _keys(chain.plain)["tokenizer.ggml.tokens"]
    # llama.cpp mends the usual end tokens by their names: it must be another one.
    special = [i for i, kind in enumerate(types) if kind in (3, 4)]
    types[next(i for i in special if words[i] not in MENDED)] = 1
    after = rewrite(chain.plain, out / "x.gguf", {"tokenizer.ggml.token_type": types})
    return str(chain.merged), str(after), "tokenizer", "token_type_changed"


# --- template and end --------------------------------------------------------------------------


def template_dropped(chain: Chain, out: Path) -> Planted:
    after = rewrite(chain.plain, out / "x.gguf", drop=("tokenizer.chat_template",))
    return str(chain.merged), str(after), "template", "template_missing"


# Jinja drops one newline behind a block and one at the end of the template.
NEWLINE = "\n\n\n"


def template_newline(chain: Chain, out: Path) -> Planted:
    key = "tokenizer.chat_template"
    after = rewrite(chain.plain, out / "x.gguf", {key: _keys(chain.plain)[key] + NEWLINE})
    return str(chain.merged), str(after), "template", "template_changed"


def end_changed(chain: Chain, out: Path) -> Planted:
    key = "tokenizer.ggml.eos_token_id"
    after = rewrite(chain.plain, out / "x.gguf", {key: 5})
    return str(chain.merged), str(after), "stopping", "end_token_changed"


def end_missing(chain: Chain, out: Path) -> Planted:
    after = rewrite(chain.plain, out / "x.gguf", drop=("tokenizer.ggml.eos_token_id",))
    return str(chain.merged), str(after), "stopping", "end_token_missing"


def end_missing_in_folder(chain: Chain, out: Path) -> Planted:
    folder = _copy(chain.merged, out / "merged")
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        config = json.loads(path.read_text())
        config.pop("eos_token_id", None)
        path.write_text(json.dumps(config))
    return chain.trained, str(folder), "stopping", "end_token_missing"


FAULTS: tuple[Callable[[Chain, Path], Planted | None], ...] = (
    adapter_not_applied, adapter_applied_twice, adapter_layers_dropped, adapter_wrong_scale,
    merged_into_wrong_base, adapter_not_in_file, rows_not_permuted, tensor_transposed,
    tensor_zeroed, wrong_precision, quantized_twice, head_untied, rope_theta_changed,
    norm_epsilon_changed, head_count_changed, pre_tokenizer_changed, merges_truncated, scores_lost,
    special_token_demoted, template_dropped, template_newline, end_changed, end_missing,
    end_missing_in_folder,
)  # fmt: skip
__all__ = ["FAULTS", "Chain", "make_chain", "rewrite"]
