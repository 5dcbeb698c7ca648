"""The section ``quantize``: which files, in which types, by which method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator, model_validator

from edgetune.quantize.methods import METHODS
from edgetune.recipe.section import Count, Positive, Section
from edgetune.recipe.training import Optimization

GGUF_SCHEMES = ("F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M")
ONNX_SCHEMES = ("fp32", "fp16", "int8", "int4")

Gguf = Literal["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M"]
Onnx = Literal["fp32", "fp16", "int8", "int4"]
#: The section of each method that has settings of its own.
METHOD_SECTIONS = {name: row.section for name, row in METHODS.items() if row.section}
if TYPE_CHECKING:
    MethodName = str
else:  # the rows of the table are the choices: in validation, help and schema
    MethodName = Literal[tuple(METHODS)]


class QatSection(Optimization):
    """Quantization-aware training of the weights."""

    learning_rate: Positive = Field(
        0.015,
        description="peak of the cosine schedule, in steps of a weight's own scale; the next quant "
        "is a quarter to three quarters of a step away",
    )
    max_steps: Count = Field(300, description="optimizer steps")
    batch_size: Count = Field(16, description="sequences per forward pass")
    scales: Literal["kept", "learned"] = Field(
        "kept",
        description="kept: blocks have the scales that the weights were rounded with; learned: "
        "super-block scales and mins are trained with the weights",
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        0.0, description="0: weights are counted from a block's lowest value here, not from zero"
    )

    @field_validator("weight_decay")
    @classmethod
    def _refuse_decay(cls, value: float) -> float:
        if value:
            # It would pull to quant 0, which is a block's lowest value, not zero.
            raise ValueError("quantization-aware training has no weight decay; set it to 0")
        return value


class AutoRoundSection(Section):
    """AutoRound's signed gradient descent on the rounding of each decoder layer."""

    iterations: Count = Field(200, description="steps per decoder layer")
    batch_size: Count = Field(8, description="calibration rows per step")


class QuantizeSection(Section):
    """Decide the type of every tensor."""

    gguf: tuple[Gguf, ...] = Field(
        ("F32", "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0"), description="GGUF schemes"
    )
    onnx: tuple[Onnx, ...] = Field(("fp32", "int8", "int4"), description="ONNX precisions")
    budget: tuple[str, ...] = Field(
        (),
        description="a file per budget, its types searched: bytes=2.5MB, bytes=Q4_K_M (as "
        "many as that scheme's), bits=4.5, kl=0.02; ram=800MB and tpot=12ms, as bench measures "
        "them here; ONNX folders: onnx:bytes=2.5MB, onnx:bytes=int4, onnx:ram=800MB and so on",
    )
    method: MethodName = Field(
        "gptq",
        description="how the weights of a budget's file are quantized: "
        + "; ".join(f"{name}: {method.summary}" for name, method in METHODS.items()),
    )
    types: tuple[str, ...] = Field(
        (),
        description="types the search may choose for a budget's file, such as those your device is "
        "fast in: [Q4_0, Q8_0]; absent: all that the method can produce",
    )
    qat: QatSection = Field(default_factory=QatSection)
    autoround: AutoRoundSection = Field(default_factory=AutoRoundSection)
    search_tokens: Count = Field(4096, description="calibration tokens a search measures KL on")
    imatrix: bool = Field(True, description="weight rounding errors by an importance matrix")
    calibration_rows: Count = Field(
        256,
        description="train rows that importance and sensitivity are measured on, chosen by the "
        "seed; rows that share a prompt with a test row are excluded",
    )

    @property
    def needs_hessian(self) -> bool:
        """Whether matrices are rounded by GPTQ."""
        return METHODS[self.method].needs_hessian

    @model_validator(mode="after")
    def _refuse_settings_of_another_method(self) -> QuantizeSection:
        for name, key in METHOD_SECTIONS.items():
            section = getattr(self, key)
            if self.method != name and section != type(section)():
                raise ValueError(
                    f"quantize.{key} has settings that only method: {name} reads, and the "
                    f"method is {self.method}; set method: {name} or leave them out"
                )
        return self
