"""A model of a comparison: anything on disk, opened in the runtime that runs it."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgetune.artifact import ENTRY, load_artifact
from edgetune.data.contract import NAME as CONTRACT
from edgetune.errors import InputError, Unsupported
from edgetune.models.checkpoint import check_model_folder
from edgetune.models.hardware import count_threads
from edgetune.models.ref import ModelRef
from edgetune.models.resolve import read_json, resolve_adapter, resolve_model
from edgetune.models.training_base import (
    TrainingBase,
    find_training_base,
    parse_training_base,
)
from edgetune.runtimes import GENAI_CONFIG, Runtime, open_runtime
from edgetune.runtimes.genai_folder import find_graph
from edgetune.runtimes.gguf_header import open_gguf
from edgetune.runtimes.isolated import Isolated
from edgetune.runtimes.onnx_header import open_onnx

#: Bits that rounding to a type leaves alone, as a limit on KL in nats between two such models.
LOSSLESS_KL = {
    "float32": 1e-5, "F32": 1e-5, "fp32": 1e-5,
    "float16": 1e-3, "F16": 1e-3, "fp16": 1e-3,
    "bfloat16": 1e-3, "BF16": 1e-3,
}  # fmt: skip


@dataclass(frozen=True)
class ModelSpec:
    """A model as the user named it.

    Attributes:
        spec: what was typed.
        format: ``hf``, ``gguf`` or ``onnx``.
        target: what a runtime opens.
        scheme: how its weights are stored: ``float32``, ``bfloat16``, ``nf4``, ``F32``, ``Q4_K_M``,
            ``fp32``, ``int4``, …
        contract: folder of the template contract that belongs to it, if any.
        trained_over: on what its adapter was trained, and who says so; ``None`` without an adapter.
        unsure: nothing says on what its adapter was trained: ``target`` takes the original weights.
    """

    spec: str
    format: str
    target: ModelRef | Path
    scheme: str
    contract: Path | None = None
    trained_over: TrainingBase | None = None
    unsure: bool = False

    @property
    def folder(self) -> Path:
        """The Hugging Face or ONNX folder, or the file."""
        return self.target.base if isinstance(self.target, ModelRef) else self.target

    @property
    def adapted(self) -> bool:
        """Whether it is a base with an adapter beside it."""
        return isinstance(self.target, ModelRef) and self.target.adapter is not None

    @property
    def lossless(self) -> bool:
        """Whether its weights are what was trained, as 16 or 32 bits hold it, or NF4 itself."""
        return self.scheme == "nf4" or self.scheme in LOSSLESS_KL

    def open(self) -> Runtime:
        """Load it, on CPU: the verdict must not depend on a GPU being there."""
        if isinstance(self.target, Path):  # C++ would read it, in our process
            return Isolated(self.target, count_threads())
        return open_runtime(self.target, count_threads(), "cpu")

    def to_json(self) -> dict[str, Any]:
        """Return what the report says of it."""
        found: dict[str, Any] = {"spec": self.spec, "format": self.format, "scheme": self.scheme}
        if self.trained_over is not None:
            found["trained_over"] = str(self.trained_over)
            found["trained_over_source"] = self.trained_over.source
        elif self.unsure:
            found["trained_over"] = None
        return found

    def over(self, base: TrainingBase) -> ModelSpec:
        """Return the same adapter as if it had been trained on ``base``."""
        assert isinstance(self.target, ModelRef)
        target = replace(self.target, nf4=base.nf4, nf4_dtype=base.dtype or self._stored)
        scheme = "nf4" if base.nf4 else self._stored
        return replace(self, target=target, scheme=scheme, trained_over=base, unsure=False)

    @property
    def _stored(self) -> str:
        """The dtype that the folder's configuration names."""
        config = read_json(self.folder / "config.json", "")
        return str(config.get("dtype") or config.get("torch_dtype") or "float32")


def resolve_spec(spec: str) -> ModelSpec:
    """Read what ``spec`` names, without loading weights.

    ``spec`` is a ``.gguf`` file, an ONNX folder, a Hugging Face folder, ``DIR+ADAPTER``, an
    artifact of a run, ``embedded:NAME`` or a hub id. ``DIR@nf4+ADAPTER``, ``DIR@nf4:bfloat16+…``
    and ``DIR@original+ADAPTER`` say on what the adapter was trained, where its files do not.

    Raises:
        InputError: nothing there, of no known kind, or broken.
    """
    path = Path(spec)
    base, plus, adapter = spec.rpartition("+")
    if plus and not path.exists():
        return _adapted(spec, base, Path(adapter))
    if path.is_file():
        if path.suffix != ".gguf":
            raise InputError(
                "not a model file that edgetune knows", where=spec, hint="give a .gguf file"
            )
        return _gguf(spec, path)
    if (path / ENTRY).is_file():
        return _artifact(spec, path)
    if (path / GENAI_CONFIG).is_file():
        return _onnx(spec, path)
    return _hugging_face(spec, ModelRef(resolve_model(spec)))


def _adapted(spec: str, base: str, adapter: Path) -> ModelSpec:
    """Return an adapter over a base, on whatever the adapter was trained."""
    folder, at, stated = base.rpartition("@")
    given = parse_training_base(stated, "asked for") if at and not Path(base).exists() else None
    base = folder if given else base
    below, plus, _ = base.rpartition("+")
    if plus and Path(below.rpartition("@")[0] or below).exists() and not Path(base).exists():
        raise InputError(
            "two adapters over one base",
            where=spec,
            hint="merge the first (`edgetune merge`) and name the folder that it makes",
        )
    found = resolve_adapter(adapter)
    subject = _hugging_face(spec, ModelRef(resolve_model(base), found))
    over = given or find_training_base(found)
    if over is not None and over.gguf:
        raise Unsupported(
            "this adapter was trained over a GGUF file's weights and is right over them alone",
            where=spec,
            hint="name the artifact of `tune` that it lies in, which says which file that is",
        )
    return subject.over(over) if over else replace(subject, unsure=True)


def _artifact(spec: str, path: Path) -> ModelSpec:
    artifact = load_artifact(path)
    if artifact.kind == "model":
        return _hugging_face(spec, ModelRef(artifact.model_folder))
    fact = {"adapter": "model", "student": "student"}.get(artifact.kind)
    if fact is None or fact not in artifact.facts:
        raise InputError(
            f"an artifact of the stage '{artifact.stage}' is no single model",
            where=spec,
            hint="name one of its files, or use --bisect with the run's folder",
        )
    ref = ModelRef.from_json(artifact.facts[fact], artifact.path)
    subject = _hugging_face(spec, ref, artifact.contract_folder)
    if ref.adapter is None or ref.gguf is not None:
        return subject
    dtype = ref.nf4_dtype if ref.nf4 else None
    return replace(subject, trained_over=TrainingBase(ref.nf4, dtype, str(path / ENTRY)))


def _hugging_face(spec: str, ref: ModelRef, contract: Path | None = None) -> ModelSpec:
    config = check_model_folder(ref.base)
    named = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    scheme = "nf4" if ref.nf4 else "gguf" if ref.gguf else named
    folder = contract or ref.base
    return ModelSpec(spec, "hf", ref, scheme, folder if (folder / CONTRACT).is_file() else None)


def _gguf(spec: str, path: Path) -> ModelSpec:
    import gguf

    file = open_gguf(path)
    types = [tensor.type for tensor in file.tensors.values() if len(tensor.shape) > 1]
    scheme = max(set(types), key=types.count) if types else "F32"
    with suppress(KeyError, ValueError, TypeError):  # none, a number that no scheme has, no number
        named = gguf.LlamaFileType(int(file.keys["general.file_type"])).name
        scheme = named.removeprefix("ALL_").removeprefix("MOSTLY_")
    return ModelSpec(spec, "gguf", path, scheme)


def _onnx(spec: str, folder: Path) -> ModelSpec:
    import onnx

    graph = open_onnx(find_graph(folder)).graph
    bits = [
        attribute.i
        for node in graph.node
        if node.op_type == "MatMulNBits"
        for attribute in node.attribute
        if attribute.name == "bits"
    ]
    sizes = {one.data_type: 0 for one in graph.initializer}
    for one in graph.initializer:
        sizes[one.data_type] += int(_count(one.dims))
    widest = max(sizes, key=lambda kind: sizes[kind], default=onnx.TensorProto.FLOAT)
    scheme = "fp16" if widest == onnx.TensorProto.FLOAT16 else "fp32"
    if bits:
        scheme = f"int{min(bits)}"
    contract = folder if (folder / CONTRACT).is_file() else None
    return ModelSpec(spec, "onnx", folder, scheme, contract)


def _count(dims: Any) -> int:
    total = 1
    for dim in dims:
        total *= dim
    return total


def declared_ends(subject: ModelSpec) -> dict[str, list[int]]:
    """Return the end-of-answer ids that each of the subject's own files names."""
    if subject.format == "gguf":
        keys = open_gguf(subject.folder).keys
        named = (f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom"))
        return {key: as_ids(keys[key], key) for key in named if key in keys}
    found: dict[str, list[int]] = {}
    if subject.format == "onnx":
        config = read_json(subject.folder / GENAI_CONFIG, "")
        found[GENAI_CONFIG] = as_ids(config["model"].get("eos_token_id"), GENAI_CONFIG)
        return found
    for name in ("generation_config.json", "config.json"):
        path = subject.folder / name
        if path.is_file() and (ids := as_ids(read_json(path, "").get("eos_token_id"), name)):
            found[name] = ids
    if subject.contract is not None:
        contract = json.loads((subject.contract / CONTRACT).read_text(encoding="utf-8"))
        found[CONTRACT] = [int(one) for one in contract["stop_ids"]]
    return found


def read_clock(subject: ModelSpec) -> str | None:
    """Return the time that the prompts of its training print; ``None`` where it is not known."""
    path = (subject.contract or subject.folder) / CONTRACT
    return read_json(path, "").get("clock") if path.is_file() else None


def as_ids(value: Any, where: str) -> list[int]:
    """Return the ids of a configuration's ``eos_token_id``: one, several or none.

    Raises:
        InputError: it holds something else.
    """
    found = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(one, int) for one in found):
        raise InputError(f"{str(value)[:80]!r} is no token id", where=where)
    return [int(one) for one in found]
