"""Facts that stages report: dataclasses, written into ``artifact.json`` and read back.

A field whose default is ``None`` is left out where it has no value, so that a kept run of an
earlier version, which lacks it, reads the same.
"""

from edgetune.facts.bench import (
    BenchFacts,
    MeasuredModel,
    Measurement,
    NotMeasured,
    PromptedModel,
    PromptingFacts,
)
from edgetune.facts.convert import from_json, to_json
from edgetune.facts.export import (
    ExportedAdapter,
    ExportedFile,
    ExportFacts,
    FileChecks,
    Refusal,
)
from edgetune.facts.fairness import (
    AnswerShare,
    ClassifiedFigure,
    ClassifierFacts,
    FairnessFacts,
    GroupBalance,
    GroupFacts,
    GroupFigure,
    ModelClassified,
    ModelFairness,
)
from edgetune.facts.gate import GateResult
from edgetune.facts.general import GeneralText
from edgetune.facts.prepare import PrepareFacts
from edgetune.facts.quantize import FormatRefusal, ImportanceFacts, QuantizeFacts
from edgetune.facts.synthesis import ControlFacts, SynthesizeFacts
from edgetune.facts.training import (
    DistillFacts,
    MergeCandidate,
    MergeFacts,
    RemovedLayer,
    StepGain,
    StudentFacts,
    TargetFacts,
    TrainedFacts,
    TuneFacts,
)

#: What a stage returns.
StageFacts = (
    PrepareFacts
    | SynthesizeFacts
    | ControlFacts
    | TuneFacts
    | DistillFacts
    | MergeFacts
    | QuantizeFacts
    | ExportFacts
    | BenchFacts
)

__all__ = [
    "AnswerShare",
    "BenchFacts",
    "ClassifiedFigure",
    "ClassifierFacts",
    "ControlFacts",
    "DistillFacts",
    "ExportFacts",
    "ExportedAdapter",
    "ExportedFile",
    "FairnessFacts",
    "FileChecks",
    "FormatRefusal",
    "GateResult",
    "GeneralText",
    "GroupBalance",
    "GroupFacts",
    "GroupFigure",
    "ImportanceFacts",
    "MeasuredModel",
    "Measurement",
    "MergeCandidate",
    "MergeFacts",
    "ModelClassified",
    "ModelFairness",
    "NotMeasured",
    "PrepareFacts",
    "PromptedModel",
    "PromptingFacts",
    "QuantizeFacts",
    "Refusal",
    "RemovedLayer",
    "StageFacts",
    "StepGain",
    "StudentFacts",
    "SynthesizeFacts",
    "TargetFacts",
    "TrainedFacts",
    "TuneFacts",
    "from_json",
    "to_json",
]
