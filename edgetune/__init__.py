"""edgetune: fine-tune, distil, merge, quantize, export, and measure what ships."""

import importlib
import logging
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgetune.api import (
        bench,
        distill,
        export,
        load,
        merge,
        quantize,
        run,
        sweep,
        tune,
        verify,
    )
    from edgetune.recipe import Recipe

__version__ = "0.1.0"
__all__ = [
    "Recipe",
    "bench",
    "distill",
    "export",
    "load",
    "merge",
    "quantize",
    "run",
    "sweep",
    "tune",
    "verify",
]


class _Room(ModuleType):
    """A subpackage that has the name of a public function, and is called as that function."""

    def __call__(self, *args: Any, **settings: Any) -> Any:
        return _function(self.__name__.rpartition(".")[2])(*args, **settings)


class _Package(ModuleType):
    """This package: importing ``edgetune.export`` must not take ``edgetune.export()`` away."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in __all__ and isinstance(value, ModuleType):
            value.__class__ = _Room
        super().__setattr__(name, value)


def _function(name: str) -> Any:
    return getattr(importlib.import_module("edgetune.api"), name)


def __getattr__(name: str) -> Any:
    """Import a public name when it is used first: ``import edgetune`` loads nothing heavy."""
    if name not in __all__:
        raise AttributeError(f"module 'edgetune' has no attribute '{name}'")
    return _function(name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


sys.modules[__name__].__class__ = _Package


def _concerns_us(record: logging.LogRecord) -> bool:
    """Whether a warning of bitsandbytes' CPU part says anything of what edgetune does.

    On every CPU with AVX-512 BF16 it says at import that a kernel of the package ``kernels`` is
    missing. That kernel multiplies with repacked 4-bit weights, which edgetune keeps from being
    repacked (:func:`edgetune.models.nf4.disable_avx512_repacking`): nothing is slower for it.
    """
    return not str(record.msg).startswith("Failed to load CPU gemm_4bit_forward")


# Here, because peft and transformers import bitsandbytes before any module of ours is asked.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_concerns_us)
