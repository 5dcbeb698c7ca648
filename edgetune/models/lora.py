"""One PEFT LoRA adapter on disk: its tensors, its scale, and what it makes of a base's tensor.

What is computed is what PEFT 0.21 computes when it loads the adapter again; what it cannot be
computed for is refused by name (:mod:`.lora_config`).
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open

from edgetune.errors import InputError, Unsupported
from edgetune.models.lineage import ADAPTER
from edgetune.models.lora_config import check_start, find_by_pattern, read_adapter_config
from edgetune.models.resolve import TOKENIZER_FILES, check_safetensors, read_header
from edgetune.models.skeleton import Skeleton, read_skeleton

_PREFIX = "base_model.model."
_PARTS = (  # of one layer, as PEFT 0.21 names them behind `lora_`
    "A.weight", "B.weight", "B.bias", "embedding_A", "embedding_B", "magnitude_vector",
)  # fmt: skip
#: What PEFT puts around a layer of the base, and keeps in a name where it saves embeddings too.
_WRAPPERS = re.compile(
    r"\.(token_adapter\.base_layer|base_layer|original_module|modules_to_save)\."
)
_TOKENS = ".token_adapter.trainable_tokens_delta"


class Adapter:
    """A LoRA adapter's tensors and scale (Hu et al. 2021, arXiv 2106.09685, section 4.1).

    rsLoRA's scale is lora_alpha / sqrt(r) (arXiv 2312.03732, section 3); DoRA rescales W + scale ·
    B A to learnt lengths (arXiv 2402.09353, equation 5): of rows, and of an embedding's columns.

    Attributes:
        folder: where it lies.
        config: its ``adapter_config.json``.
        skeleton: of the base.

    Raises:
        InputError: a broken file.
        Unsupported: a variant that these do not describe.
    """

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder = folder
        self.config = read_adapter_config(folder)
        check_safetensors(folder / ADAPTER)
        self.skeleton: Skeleton = read_skeleton(base)
        self._parts: dict[str, dict[str, str]] = defaultdict(dict)
        self._saved: dict[str, str] = {}  # modules_to_save: copies of their own
        self._base: dict[str, str] = {}  # the base's own tensors, kept beside the adapter
        self._tokens: dict[str, str] = {}
        self._shapes: dict[str, list[int]] = {}
        for key, entry in read_header(folder / ADAPTER).items():
            self._shapes[key] = list(entry["shape"])
            self._take(key, key.removeprefix(_PREFIX))
        for module in self._parts:
            self._check_rank(module)

    def _take(self, key: str, name: str) -> None:
        module, found, part = name.rpartition(".lora_")
        part = f"{part}.weight" if part in ("A", "B") else part
        part = "magnitude_vector" if part == "magnitude_vector.weight" else part
        if found and part in _PARTS:
            self._parts[module][part] = key
        elif name.endswith(_TOKENS):
            self._tokens[name.removesuffix(_TOKENS)] = key
        elif ".token_adapter.trainable_tokens_original" in name:
            return  # what the rows were before
        elif not found and name.endswith((".weight", ".bias")):
            plain = _WRAPPERS.sub(".", name)
            saved = self.config.get("modules_to_save") or []
            copied = any(_ends_a_module(plain.rpartition(".")[0], one) for one in saved)
            own = ".base_layer." in name or ".original_module." in name or not copied
            (self._base if own else self._saved)[plain] = key
        else:
            raise Unsupported(f"cannot fold the tensor '{name}'", where=str(self.folder))

    @property
    def modules(self) -> set[str]:
        """Names of the layers with low-rank updates, as in the base's model."""
        return set(self._parts)

    @property
    def touched(self) -> set[str]:
        """Names of the base's tensors that it changes."""
        biases = {f"{module}.bias" for module, parts in self._parts.items() if "B.bias" in parts}
        low_rank = {f"{module}.weight" for module in self._parts}
        rows = {f"{module}.weight" for module in self._tokens}
        return low_rank | biases | rows | set(self._saved) | set(self._base)

    @property
    def tokens(self) -> bool:
        """Whether single rows of an embedding are trained."""
        return bool(self._tokens)

    @property
    def plain(self) -> bool:
        """Whether it is low-rank factors beside linear layers and nothing else.

        Such an adapter is loaded without the base's weights: it replaces none, learns no length of
        theirs (DoRA), and its start was not taken off them.
        """
        ends = {self.skeleton.embedding, self.skeleton.head}
        return not (
            self._saved
            or self._base
            or self._tokens
            or ends & set(self._parts)
            or any(set(parts) != {"A.weight", "B.weight"} for parts in self._parts.values())
            or str(self.config.get("init_lora_weights")).lower() in ("pissa", "olora")
        )

    def holds(self, name: str) -> bool:
        """Whether it has a tensor of the base whole, its low-rank update aside."""
        return name in self._saved or name in self._base

    def trains(self, module: str) -> bool:
        """Whether a layer has an update or a copy of its own, which its tied counterpart lacks."""
        return module in self._parts or f"{module}.weight" in self._saved

    @property
    def tokenizer(self) -> Path | None:
        """The folder, if the tokenizer of the training lies there."""
        return (
            self.folder if any((self.folder / one).is_file() for one in TOKENIZER_FILES) else None
        )

    def rows(self, name: str) -> int | None:
        """Return how many rows a tensor has in the adapter, of one that it holds or fits."""
        module = name.removesuffix(".weight")
        if name in self._saved or name in self._base:
            return self._shapes[self._saved.get(name) or self._base[name]][0]
        parts = self._parts.get(module, {})
        if "embedding_A" in parts:
            return self._shapes[parts["embedding_A"]][1]
        return self._shapes[parts["B.weight"]][0] if "B.weight" in parts else None

    def factors(self, module: str) -> tuple[float, torch.Tensor, torch.Tensor]:
        """Return scale, L and R: scale · L R is the update, in the layout of the base's weight."""
        parts = self._parts[module]
        embedding = "embedding_A" in parts
        a = self._read(parts["embedding_A" if embedding else "A.weight"])
        b = self._read(parts["embedding_B" if embedding else "B.weight"])
        scale = self._scale(module, a.shape[0])
        turned = embedding or module in self.skeleton.transposed
        return (scale, a.T, b.T) if turned else (scale, b, a)

    def apply(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        """Return the tensor ``name`` with this adapter merged, float32."""
        if name in self._saved:
            return self._read(self._saved[name])
        weight = self.own(name, weight)
        module, _, kind = name.rpartition(".")
        if kind == "bias" and "B.bias" in self._parts.get(module, {}):
            return self._apply_bias(module, weight)
        if kind == "weight" and module in self._parts:
            weight = self._apply_factors(module, weight)
        if kind == "weight" and module in self._tokens:
            weight = weight.clone()
            weight[self._token_ids(module)] = self._read(self._tokens[module])
        return weight

    def own(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        """Return the base's own tensor as the adapter keeps it, or ``weight`` where it does not."""
        return self._read(self._base[name]) if name in self._base else weight

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuse factors that do not fit the base's tensors.

        Args:
            shapes: of the base's tensors on disk, by the names of the model.

        Raises:
            InputError: names the first that does not.
        """
        for module, parts in sorted(self._parts.items()):
            shape = shapes.get(f"{module}.weight", ())
            if len(shape) != 2 or "embedding_A" in parts:
                continue
            out, columns = shape
            if module in self.skeleton.transposed:
                out, columns = columns, out
            given = self._shapes[parts["A.weight"]][1], self._shapes[parts["B.weight"]][0]
            ends = (self.skeleton.embedding, self.skeleton.head)  # a vocabulary may have changed
            for side, channels, wanted in (("A", given[0], columns), ("B", given[1], out)):
                if channels != wanted and not (side == "B" and module in ends):
                    raise InputError(
                        f"'{module}.lora_{side}' has {channels} channels where the base has "
                        f"{wanted}",
                        where=str(self.folder),
                        hint="use the base the adapter was trained on",
                    )

    def _check_rank(self, module: str) -> None:
        parts = self._parts[module]
        if not (
            {"A.weight", "B.weight"} <= set(parts) or {"embedding_A", "embedding_B"} <= set(parts)
        ):
            raise InputError(
                f"'{module}' has only {', '.join(sorted(parts))} of its LoRA tensors",
                where=str(self.folder),
                hint="save the adapter again",
            )
        rank = self._shapes[parts.get("A.weight") or parts["embedding_A"]][0]
        wanted = find_by_pattern(self.config, "rank_pattern", module, self.config["r"])
        if rank != wanted:
            raise InputError(
                f"'{module}' has rank {rank}, and adapter_config.json says {wanted}",
                where=str(self.folder),
                hint="use the adapter_config.json that was saved with these weights",
            )
        self._scale(module, rank)  # a pattern that is no expression is told here
        check_start(self.config, module, "embedding_A" in parts, self.skeleton, str(self.folder))

    def _scale(self, module: str, rank: int) -> float:
        alpha = float(
            find_by_pattern(self.config, "alpha_pattern", module, self.config["lora_alpha"])
        )
        return alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)

    def _apply_factors(self, module: str, weight: torch.Tensor) -> torch.Tensor:
        parts = self._parts[module]
        scale, left, right = self.factors(module)
        # A base weight that PEFT kept beside the adapter has had the start taken off.
        if "embedding_A" not in parts and f"{module}.weight" not in self._base:
            weight = self._without_start(module, weight, scale)
        folded = torch.addmm(weight, left, right, alpha=scale)  # one new tensor, not three
        if "magnitude_vector" not in parts:
            return folded
        length = self._read(parts["magnitude_vector"])
        across = 0 if "embedding_A" in parts or module in self.skeleton.transposed else 1
        norms = torch.linalg.norm(folded, dim=across, keepdim=True)
        return folded.mul_(length.reshape(norms.shape) / norms)

    def _apply_bias(self, module: str, bias: torch.Tensor) -> torch.Tensor:
        """Add the bias of B; with DoRA, which would rescale it, it is refused."""
        parts = self._parts[module]
        rank = self._shapes[parts["A.weight"]][0]
        return bias + self._scale(module, rank) * self._read(parts["B.bias"])

    def _without_start(self, module: str, weight: torch.Tensor, scale: float) -> torch.Tensor:
        """Take the adapter's start off the base, as PEFT does whenever it loads such an adapter."""
        start = str(self.config.get("init_lora_weights")).lower()
        if start not in ("pissa", "olora"):
            return weight
        rank = self._shapes[self._parts[module]["A.weight"]][0]
        if start == "pissa":  # Meng et al. 2024, arXiv 2404.02948, equations 2 to 4
            left, values, right = torch.linalg.svd(weight, full_matrices=False)
            principal: torch.Tensor = (left[:, :rank] * values[:rank]) @ right[:rank]
            return weight - principal
        ortho, upper = torch.linalg.qr(weight)  # Büyükakyüz 2024, arXiv 2406.01775, algorithm 1
        start_weight: torch.Tensor = scale * ortho[:, :rank] @ upper[:rank]
        return weight - start_weight

    def _token_ids(self, module: str) -> list[int]:
        found = self.config.get("trainable_token_indices")
        if isinstance(found, dict):
            return next(ids for name, ids in found.items() if _ends_a_module(module, name))
        return list(found or [])

    def _read(self, key: str) -> torch.Tensor:
        with safe_open(self.folder / ADAPTER, "pt") as file:
            return file.get_tensor(key).float()  # type: ignore[no-any-return]


def _ends_a_module(module: str, name: str) -> bool:
    """Whether ``module``, or a module that it lies in, is called ``name`` (or ends in it)."""
    return f".{module}.".find(f".{name}.") >= 0
