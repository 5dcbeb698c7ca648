"""What a model is made of on disk, before anything heavy is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ModelRef:
    """A Hugging Face folder, perhaps with a PEFT adapter, perhaps over NF4 or a GGUF's weights.

    Attributes:
        base: folder with ``config.json``, safetensors and tokenizer.
        adapter: folder with ``adapter_config.json`` and ``adapter_model.safetensors``.
        nf4: the base is loaded in 4 bits (NF4, double quantization), as it was in training.
        nf4_dtype: dtype the base had in that training when it was put into 4 bits.
        gguf: file whose weights the base has in place of the folder's.
    """

    base: Path
    adapter: Path | None = None
    nf4: bool = False
    nf4_dtype: str = "float32"
    gguf: Path | None = None

    def to_json(self, root: Path) -> dict[str, Any]:
        """Return plain values; paths inside ``root`` (the artifact) are kept relative to it."""

        def relative(path: Path) -> str:
            path, inside = path.resolve(), root.resolve()
            return path.relative_to(inside).as_posix() if path.is_relative_to(inside) else str(path)

        adapter = relative(self.adapter) if self.adapter else None
        found = {
            "base": relative(self.base), "adapter": adapter, "nf4": self.nf4,
            "nf4_dtype": self.nf4_dtype,
        }  # fmt: skip
        return found | ({"gguf": relative(self.gguf)} if self.gguf else {})

    @classmethod
    def from_json(cls, value: dict[str, Any], root: Path) -> ModelRef:
        """Undo :meth:`to_json`: relative paths lie in ``root``."""
        adapter, gguf = value.get("adapter"), value.get("gguf")
        return cls(
            root / value["base"],
            root / adapter if adapter else None,
            bool(value["nf4"]),
            str(value.get("nf4_dtype", "float32")),
            root / gguf if gguf else None,
        )
