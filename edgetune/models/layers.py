"""Where a model keeps its decoder layers."""

from __future__ import annotations

from typing import Any

import torch

from edgetune.errors import InputError


def find_layers(model: Any) -> torch.nn.ModuleList:
    """Return the decoder's layers: the module list whose length the configuration names.

    Raises:
        InputError: there is no such list.
    """
    depth = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth:
            return module
    raise InputError("cannot find this model's layers", where=model.config.model_type)
