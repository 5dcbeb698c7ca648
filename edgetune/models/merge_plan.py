"""What tensors a merged model has: those of the base, and what its adapters change in their number.

A tied head that was trained apart from the embedding becomes a tensor of its own, and a vocabulary
has as many rows as the training gave it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from edgetune.errors import InputError, Unsupported
from edgetune.models.checkpoint import Checkpoint
from edgetune.models.lora import Adapter
from edgetune.models.safetensors_writer import Entry, written_kind
from edgetune.models.skeleton import Skeleton, name_in_model, read_skeleton


@dataclass(frozen=True)
class FoldPlan:
    """The new files.

    Attributes:
        files: file name to its tensors.
        model_names: name on disk to the name in the model (GPT-2's files leave out a prefix).
        nf4: modules that NF4 holds, of which the base's weights are rounded.
        transposed: modules whose weight is [in, out].
        untied: the head is no longer the embedding.
        rows: of the vocabulary, where it is another than the base's.
    """

    files: dict[str, list[Entry]]
    model_names: dict[str, str]
    nf4: frozenset[str]
    transposed: frozenset[str]
    untied: bool
    rows: int | None


def plan_fold(
    checkpoint: Checkpoint, loras: Sequence[Adapter], dtype: torch.dtype, nf4: bool
) -> FoldPlan:
    """Return the tensors of ``checkpoint`` with ``loras`` merged, in their order.

    Args:
        checkpoint: of the base.
        loras: first to last.
        dtype: of the new weights.
        nf4: the base is to be rounded to NF4 before.

    Raises:
        InputError: an adapter changes what this base does not have.
        Unsupported: something that weights of this shape cannot say.
    """
    if not loras and not nf4:
        names = {name: name for name in checkpoint.names()}
        files = _list_entries(checkpoint, names, dtype, {})
        return FoldPlan(files, names, frozenset(), frozenset(), False, None)
    skeleton = loras[0].skeleton if loras else read_skeleton(checkpoint.folder)
    names = name_in_model(checkpoint, skeleton)
    embedding, head = f"{skeleton.embedding}.weight", f"{skeleton.head}.weight"
    untied = skeleton.tied and any(_unties(lora, skeleton) for lora in loras)
    on_disk = {model: name for name, model in names.items()}
    if skeleton.tied and head in on_disk:  # a copy that transformers overwrites with the embedding
        del names[on_disk.pop(head)]
    headers = {model: checkpoint.headers[name] for name, model in names.items()}
    for lora in loras:
        lora.check({name: header.shape for name, header in headers.items()})
        _check_names(lora, on_disk, skeleton)
        if untied and lora.tokens:
            raise Unsupported(
                "trainable_token_indices over a tied embedding, beside a head of its own",
                where=str(lora.folder),
            )
    rows = _count_rows(
        loras, {name: headers[name].shape[0] for name in (embedding, head) if name in headers}
    )
    files = _list_entries(checkpoint, names, dtype, rows)
    if untied:
        source = on_disk[embedding]
        entries = files[checkpoint.headers[source].file.name]
        (whole,) = (one for one in entries if one.name == source)
        count = rows.get(head, rows[embedding])
        entries.append(Entry(head, source, (count, *whole.shape[1:]), whole.kind))
        names[head] = head
    new = set(rows.values())
    if len(new) > 1:
        raise InputError(
            f"the adapter leaves the embedding {rows[embedding]} rows and the head {rows[head]}",
            where=str(loras[-1].folder),
            hint="save the adapter with both: save_embedding_layers=True",
        )
    resized = new and new != {headers[embedding].shape[0]}
    return FoldPlan(
        files, names, skeleton.nf4 if nf4 else frozenset(), skeleton.transposed, untied,
        new.pop() if resized else None,
    )  # fmt: skip


def _unties(lora: Adapter, skeleton: Skeleton) -> bool:
    """Whether an adapter trains one end of tied embeddings alone, or each for itself.

    Where PEFT keeps them together (``ensure_weight_tying``), both are in the adapter and equal.
    """
    return lora.trains(skeleton.head) or lora.trains(skeleton.embedding)


def _check_names(lora: Adapter, on_disk: dict[str, str], skeleton: Skeleton) -> None:
    """Refuse an adapter of which a tensor has no place in the base."""
    for name in sorted(lora.touched):
        if name in on_disk or (skeleton.tied and name == f"{skeleton.head}.weight"):
            continue
        module, _, kind = name.rpartition(".")
        if kind == "bias" and f"{module}.weight" in on_disk:
            raise Unsupported(
                f"the adapter gives '{module}' a bias, which this base's layer does not have",
                where=str(lora.folder),
                hint="train without lora_bias; PEFT cannot merge it either",
            )
        raise InputError(
            f"the adapter tunes '{name}', which this base does not have",
            where=str(lora.folder),
            hint="use the base the adapter was trained on",
        )


def _count_rows(loras: Sequence[Adapter], rows: dict[str, int]) -> dict[str, int]:
    """Return how many rows the embedding and the head have in the end.

    Args:
        loras: first to last.
        rows: of those two in the base, by tensor name.
    """
    rows = dict(rows)
    for lora in loras:
        before = dict(rows)
        for name in {*rows, f"{lora.skeleton.head}.weight"}:
            count = lora.rows(name)
            if count is None:
                continue
            if count != rows.get(name, count) and not lora.holds(name):
                raise InputError(
                    f"'{name}' has {rows[name]} rows in the base and {count} in the adapter, which "
                    "does not hold them",
                    where=str(lora.folder),
                    hint="save the adapter again with save_embedding_layers=True",
                )
            if name in rows or lora.trains(lora.skeleton.head):
                rows[name] = count
        grown = any(count > before.get(name, count) for name, count in rows.items())
        if grown and lora.tokenizer is None:
            raise InputError(
                f"the adapter has {max(rows.values())} tokens and the base "
                f"{max(before.values())}; what the new ones are is not said",
                where=str(lora.folder),
                hint="put all tokenizer files of the training (tokenizer.json and so on) in the "
                "adapter's folder",
            )
    return rows


def _list_entries(
    checkpoint: Checkpoint, names: dict[str, str], dtype: torch.dtype, rows: dict[str, int]
) -> dict[str, list[Entry]]:
    files: dict[str, list[Entry]] = {file.name: [] for file in checkpoint.files}
    for name, model in names.items():
        header = checkpoint.headers[name]
        shape = (rows.get(model, header.shape[0]), *header.shape[1:]) if header.shape else ()
        kind = written_kind(name, header, dtype)
        files[header.file.name].append(Entry(name, name, shape, kind))
    return files
