"""edgetune: fine-tune, distil, merge, quantize, export, and measure what ships."""

__version__ = "0.1.0"
