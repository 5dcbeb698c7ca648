"""Tokens that a frozen head cannot tell apart: those that a base was never trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from edgetune.models.checkpoint_tensors import CheckpointTensors
from edgetune.models.shape import Shape

#: Cosine of two rows of a head from which on their tokens count as one. Tokens that a training
#: never had keep rows that are alike (0.999 and more in the small models measured); digits and
#: capitals, which it had, are up to 0.985 alike.
ALIKE = 0.99
#: Rows of a large head that a token is compared with, evenly taken: hundreds are untrained.
COMPARED_ROWS = 32_768
_CHUNK_ROWS = 8_192
_HEADS = ("lm_head.weight", "embed_out.weight")
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "tok_embeddings.weight")


@torch.no_grad()
def find_alike(head_VD: torch.Tensor, ids: Sequence[int]) -> list[int]:
    """Return those of ``ids`` whose row of the head is parallel to another token's.

    Whatever the hidden state is, such tokens get almost the same logit. LoRA changes hidden states
    alone, so no adapter makes one of them likely and the others not. Land and Bartolo 2024 (Fishing
    for Magikarp, section 3.1) find untrained tokens by the same likeness of rows.

    Args:
        head_VD: weights of the head, ``[V, D]``, in any float dtype and on any device.
        ids: tokens to look at; a few hundred.
    """
    if not ids:
        return []
    at_N = torch.tensor(list(ids), device=head_VD.device)
    step = -(-len(head_VD) // COMPARED_ROWS)
    every_M = torch.arange(0, len(head_VD), step, device=head_VD.device)
    rows_ND = _unit(head_VD[at_N])
    most_N = _most_alike(rows_ND, at_N, rows_ND, at_N)
    for others_C in every_M.split(_CHUNK_ROWS):
        found_N = _most_alike(rows_ND, at_N, _unit(head_VD[others_C]), others_C)
        most_N = torch.maximum(most_N, found_N)
    return at_N[most_N >= ALIKE].tolist()


def _unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows.detach().float(), dim=1)


def _most_alike(
    rows_ND: torch.Tensor, at_N: torch.Tensor, others_MD: torch.Tensor, others_M: torch.Tensor
) -> torch.Tensor:
    """Return each token's greatest cosine to another token than itself, ``[N]``."""
    cosines_NM = rows_ND @ others_MD.T
    cosines_NM[at_N[:, None] == others_M] = -1.0
    return cosines_NM.amax(1)


def find_alike_in_folder(folder: Path, shape: Shape, ids: Sequence[int]) -> list[int]:
    """Return what :func:`find_alike` finds in the weights of a model folder, read for it alone.

    Nothing is found where the weights are packed, or the head goes by a name that is not known.
    """
    ends = _EMBEDDINGS if shape.tied else _HEADS
    name = find_matrix(shape, ends)
    if name is None or shape.packed:
        return []
    head_VD = CheckpointTensors(folder).read_stored_dtype(name)
    return find_alike(head_VD, [one for one in ids if one < len(head_VD)])


def name_ends(shape: Shape) -> list[str]:
    """Return the names of a model's embedding and head, as ``modules_to_save`` takes them.

    Both are trained: the one to read such tokens, the other to write them. Where they are one
    tensor, they become two.
    """
    head = find_matrix(shape, _HEADS) or _HEADS[0]
    names = [find_matrix(shape, _EMBEDDINGS), head]
    return [name.removesuffix(".weight").rpartition(".")[2] for name in names if name]


def find_matrix(shape: Shape, ends: Sequence[str]) -> str | None:
    """Return the one tensor whose name ends so; none where there are several or none."""
    names = [name for name in shape.tensors if name.endswith(tuple(ends))]
    return names[0] if len(names) == 1 else None
