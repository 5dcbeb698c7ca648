"""What a training step computes and keeps, read off the model's own code without its weights.

The model of a configuration is built of fake tensors (shapes and dtypes, no memory), with its
adapter, and one step is run: every family, every attention, dropout and gradient checkpointing are
counted as they are. Layers are alike, so a model of one layer and one of two say what all take.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig

from edgetune.errors import InputError, Unsupported
from edgetune.models.adapters import add_adapter
from edgetune.models.resolve import resolve_model
from edgetune.models.skeleton import build_on_meta
from edgetune.plan.adapter_size import fit_any_layer
from edgetune.recipe import Recipe, Training


@dataclass(frozen=True)
class Step:
    """Work and memory of one forward and backward pass, without the head.

    Attributes:
        saved_bytes: activations kept for the backward pass.
        flops: of matrix products, forward and backward.
        forward_flops: of those, in the forward pass.
        moved_bytes: read and written by all other operations.
        operations: how many are dispatched.
        largest_bytes: the largest tensor that is made.
    """

    saved_bytes: float
    flops: float
    forward_flops: float
    moved_bytes: float
    operations: float
    largest_bytes: float


@dataclass(frozen=True)
class StepSettings:
    """What a step's memory depends on.

    Attributes:
        section: rank, dropout and gradient checkpointing.
        adapter: whether a LoRA adapter is trained, or all weights.
        dtype: of weights and activations.
        batch: sequences.
        length: tokens of each.
    """

    section: Training
    adapter: bool
    dtype: str
    batch: int
    length: int


def read_config(folder: Path) -> Any:
    """Return a model folder's configuration.

    Raises:
        InputError: transformers knows none of this kind.
    """
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, KeyError, OSError) as error:
        raise InputError(f"cannot read the configuration: {error}", where=str(folder)) from error


def student_config(recipe: Recipe, base: Any) -> Any:
    """Return the configuration of what the recipe ships: its student's, or the base's again.

    Width pruning is not counted: such a student is planned at the base's width.
    """
    if recipe.distill is None:
        return base
    student = recipe.distill.student
    if student.path is not None:
        return read_config(resolve_model(student.path))
    if student.config is not None:
        return read_config(Path(student.config))
    depth = int(base.get_text_config().num_hidden_layers)
    pruned = student.mlp or student.heads or student.hidden
    return cut_layers(base, student.layers or (depth if pruned else max(1, depth // 2)))


def trace_step(config: Any, settings: StepSettings) -> Step:
    """Return what one forward and backward pass of the whole model takes.

    Traced are as many layers as follow one another before their kinds repeat, and twice as many.

    Args:
        config: of transformers.
        settings: of the training.

    Raises:
        InputError: transformers cannot build the model.
        Unsupported: its code does not run on fake tensors, as that of experts in float32.
    """
    layers = int(config.get_text_config().num_hidden_layers)
    period = find_period(config)
    if layers <= 2 * period:
        return _trace(config, settings)
    one = _trace(cut_layers(config, period), settings)
    two = _trace(cut_layers(config, 2 * period), settings)

    def extrapolate(name: str) -> float:
        first, second = getattr(one, name), getattr(two, name)
        return float(first + (layers / period - 1) * max(second - first, 0.0))

    names = ("saved_bytes", "flops", "forward_flops", "moved_bytes", "operations")
    return replace(two, **{name: extrapolate(name) for name in names})


def find_period(config: Any) -> int:
    """Return after how many layers their kinds repeat, as where some attend and some are recurrent.

    Attention over a window is of the same kind as over all: training computes both by one mask.
    """
    kinds = getattr(config.get_text_config(), "layer_types", None) or ["full_attention"]
    kinds = ["attention" if kind in _ATTENTION else kind for kind in kinds]
    repeats = (
        period
        for period in range(1, len(kinds) + 1)
        if all(kind == kinds[index % period] for index, kind in enumerate(kinds))
    )
    return next(repeats)


def cut_layers(config: Any, layers: int) -> Any:
    """Return a copy of a configuration with only the first layers."""
    cut = copy.deepcopy(config)
    text = cut.get_text_config()
    depth = text.num_hidden_layers
    text.num_hidden_layers = layers
    for name, value in vars(text).items():
        if isinstance(value, list) and len(value) == depth and name.endswith("layer_types"):
            setattr(text, name, value[:layers])
    return cut


def _trace(config: Any, settings: StepSettings) -> Step:
    model = _build(config, settings)
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # it prints a traceback of what is explained below
    try:
        return _run_fake_step(model, settings)
    except Exception as error:  # whatever a family's code raises where a tensor has no values
        raise Unsupported(
            f"no plan for models of the type {config.model_type}: a step cannot be traced "
            f"({type(error).__name__})",
            where="plan",
            hint="`edgetune run` needs no plan",
        ) from error
    finally:
        logger.setLevel(level)


def _run_fake_step(model: Any, settings: StepSettings) -> Step:
    saved: dict[int, tuple[int, Any]] = {}  # the tensors too: an address freed is used again
    with FakeTensorMode():
        own = _make_fake(model)

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                saved[storage._cdata] = (storage.nbytes(), tensor)
            return tensor

        hidden: list[torch.Tensor] = []

        def skip_head(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
            hidden.append(inputs[0])
            return inputs[0][:, :0]

        model.get_output_embeddings().register_forward_pre_hook(skip_head)
        ids_BT = torch.zeros((settings.batch, settings.length), dtype=torch.long)
        traffic = _Traffic()
        watch = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        with FlopCounterMode(display=False) as forward, traffic, watch:
            model(input_ids=ids_BT, use_cache=False)
        kept = sum(size for size, _ in saved.values())
        with FlopCounterMode(display=False) as backward, traffic:
            hidden[0].float().sum().backward()
    return Step(
        saved_bytes=kept,
        flops=forward.get_total_flops() + backward.get_total_flops(),
        forward_flops=forward.get_total_flops(),
        moved_bytes=traffic.bytes,
        operations=traffic.operations,
        largest_bytes=traffic.largest,
    )


def _build(config: Any, settings: StepSettings) -> Any:
    """Return the model on the meta device, as the trainer would have it."""
    section = settings.section
    model = build_on_meta(config, config.model_type, getattr(torch, settings.dtype))
    if settings.adapter:
        try:
            with torch.device("meta"):
                model = add_adapter(model, fit_any_layer(section), 0)
        except ValueError as error:
            raise InputError(f"no adapter for it: {error}", where=config.model_type) from error
    model.train()
    if section.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def _make_fake(model: Any) -> set[int]:
    """Give the model fake weights on the CPU; return the addresses of their storages."""
    made: dict[int, torch.Tensor] = {}

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in made:  # tied weights stay one
            kept = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
            if tensor.requires_grad:  # adapters are trained in float32
                kept = torch.nn.Parameter(kept.float())
            elif isinstance(tensor, torch.nn.Parameter):
                kept = torch.nn.Parameter(kept, requires_grad=False)
            made[id(tensor)] = kept
        return made[id(tensor)]

    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = fake(tensor)
    return {tensor.untyped_storage()._cdata for tensor in made.values()}


class _Traffic(TorchDispatchMode):
    """Counts the operations that are no matrix products and no views, and the bytes they move."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes, self.operations, self.largest = 0.0, 0, 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.is_view:
            return result
        self.operations += 1
        written = sum(map(_bytes_of, _tensors(result)))
        self.largest = max(self.largest, written)
        if func.overloadpacket not in _PRODUCTS:
            self.bytes += written + sum(map(_bytes_of, _tensors(args)))
        return result


_ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}
_PRODUCTS = {torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm}


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for part in value for tensor in _tensors(part)]
    return []


def _bytes_of(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
