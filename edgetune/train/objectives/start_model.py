"""The reference of a step: the model as the step began."""

from __future__ import annotations

from typing import Any

import torch


class StartModel:
    """The model as the step began, in the place of the one that is trained.

    What is trained of it is a copy; the rest is shared, so no second model is in memory.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        trained = ((n, p) for n, p in model.named_parameters() if p.requires_grad)
        self._start = {name: parameter.detach().clone() for name, parameter in trained}

    @property
    def config(self) -> Any:
        return self.model.config

    @property
    def training(self) -> bool:
        return bool(self.model.training)

    def __call__(self, **inputs: Any) -> Any:
        """Return what the model as it began makes of the inputs; without gradients."""
        parameters = {n: p for n, p in self.model.named_parameters() if n in self._start}
        now = {name: parameter.data for name, parameter in parameters.items()}
        was_training = self.model.training
        try:
            for name, parameter in parameters.items():
                parameter.data = self._start[name]
            with torch.no_grad():
                return self.model.eval()(**inputs)
        finally:
            for name, parameter in parameters.items():
                parameter.data = now[name]
            self.model.train(was_training)
