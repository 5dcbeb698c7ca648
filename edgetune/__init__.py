"""edgetune: fine-tune, distil, merge, quantize, export, and measure what ships."""

import logging

__version__ = "0.1.0"


def _concerns_us(record: logging.LogRecord) -> bool:
    """Whether a warning of bitsandbytes' CPU part says anything of what edgetune does.

    On every CPU with AVX-512 BF16 it says at import that a kernel of the package ``kernels`` is
    missing. That kernel multiplies with repacked 4-bit weights, which edgetune keeps from being
    repacked (:func:`edgetune.models.nf4.disable_avx512_repacking`): nothing is slower for it.
    """
    return not str(record.msg).startswith("Failed to load CPU gemm_4bit_forward")


# Here, because peft and transformers import bitsandbytes before any module of ours is asked.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_concerns_us)
