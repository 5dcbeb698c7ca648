"""A model's parameters by name, read and replaced alike whether they are in memory or on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from edgetune.models.offload import StreamedWeights


def is_streamed(model: Any) -> bool:
    """Whether a model's weights are on disk: :func:`edgetune.models.offload.open_offloaded`."""
    return _source_of(model) is not None


def own_names(model: Any) -> dict[str, str]:
    """Return each parameter's name to the first name it has: a tied head's is its embedding's."""
    source = _source_of(model)
    first: dict[Any, str] = {}
    names = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        key = id(parameter) if source is None else source.stored_name(name)
        names[name] = first.setdefault(key, name)
    return names


def read_parameter(model: Any, name: str) -> torch.Tensor:
    """Return a parameter's values in float32 on the CPU."""
    source = _source_of(model)
    if source is not None:
        return source.read_unchanged(name)
    return model.get_parameter(name).detach().float().cpu()  # type: ignore[no-any-return]


@contextmanager
def changed_parameters(model: Any, values: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Put other values into parameters of these names while the context is open.

    A streamed model asks for them as it computes, so that a mapping may make them then; one with
    ``read_rows(name, rows)`` is asked for the rows of an embedding that are looked up.
    """
    source = _source_of(model)
    if source is not None:
        with source.changed(values):
            yield
        return
    parameters = {name: model.get_parameter(name) for name in values}
    before = {name: parameter.data for name, parameter in parameters.items()}
    try:
        for name, parameter in parameters.items():
            parameter.data = values[name].to(parameter.device)
        yield
    finally:
        for name, data in before.items():
            parameters[name].data = data


def _source_of(model: Any) -> StreamedWeights | None:
    source: StreamedWeights | None = getattr(model, "streamed_weights", None)
    return source
