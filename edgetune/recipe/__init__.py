"""The recipe: its sections, and how it is read, checked and written."""

from edgetune.recipe.cleaning import NO_CLEANING, CleanSection
from edgetune.recipe.data import ChunkSection, Columns, DataSection, DataSource, list_sources
from edgetune.recipe.prompting import PromptingSection
from edgetune.recipe.quantization import (
    GGUF_SCHEMES,
    ONNX_SCHEMES,
    AutoRoundSection,
    QatSection,
    QuantizeSection,
)
from edgetune.recipe.schema import (
    BenchSection,
    ExportSection,
    Gate,
    MergeSection,
    ModelSection,
    Recipe,
    ReportSection,
    Requests,
)
from edgetune.recipe.search import SearchSection
from edgetune.recipe.section import Section, expand_home
from edgetune.recipe.sections import Sections
from edgetune.recipe.synthesis import SynthesizeSection
from edgetune.recipe.training import (
    DistillSection,
    Optimization,
    Student,
    Training,
    TuneSection,
)

__all__ = [
    "GGUF_SCHEMES",
    "NO_CLEANING",
    "ONNX_SCHEMES",
    "AutoRoundSection",
    "BenchSection",
    "ChunkSection",
    "CleanSection",
    "Columns",
    "DataSection",
    "DataSource",
    "DistillSection",
    "ExportSection",
    "Gate",
    "MergeSection",
    "ModelSection",
    "Optimization",
    "PromptingSection",
    "QatSection",
    "QuantizeSection",
    "Recipe",
    "ReportSection",
    "Requests",
    "SearchSection",
    "Section",
    "Sections",
    "Student",
    "SynthesizeSection",
    "Training",
    "TuneSection",
    "expand_home",
    "list_sources",
]
