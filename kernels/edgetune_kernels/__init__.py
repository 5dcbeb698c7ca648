"""Triton kernels; the definition of each is in edgetune.ops under the same name."""
