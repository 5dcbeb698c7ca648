"""Have the classifiers that a recipe names read texts, each in a process of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgetune.artifact import hash_source
from edgetune.disk import write_atomic
from edgetune.log import Log, counted
from edgetune.measure.workers import Workers, describe_end
from edgetune.models.classifier import Classifier, describe_classifier
from edgetune.models.hardware import count_threads
from edgetune.models.resolve import resolve_model
from edgetune.recipe import BenchSection


@dataclass(frozen=True)
class TextProbabilities:
    """What a classifier says of texts.

    Attributes:
        classifier: the model and its label.
        model: its name as the recipe has it.
        sha256: of its folder.
        probabilities: of the label, by text; texts without a letter are not in it.
        cut: texts longer than the model's context.
    """

    classifier: Classifier
    model: str
    sha256: str
    probabilities: Mapping[str, float] = field(repr=False)
    cut: frozenset[str] = frozenset()

    def of(self, text: str) -> float:
        """Return the probability for a text; 0 for an empty one, which has no label."""
        return self.probabilities.get(text.strip(), 0.0)


def classify_texts(
    section: BenchSection, texts: Iterable[str], scratch: Path, log: Log, device: str = "cpu"
) -> dict[str, TextProbabilities]:
    """Return what each classifier of ``bench.fairness.classifier`` says of the texts, by its name.

    Equal texts are read once. A result in ``scratch`` of the same model and texts is taken.

    Args:
        section: names the classifiers, and says how many threads they take.
        texts: any number; outer white space does not count.
        scratch: folder of jobs and results.
        log: gets a bar.
        device: that classifiers run on.

    Raises:
        InputError: a classifier cannot be found or loaded.
        EdgetuneError: its process died.
    """
    named = section.fairness.classifier if section.fairness else None
    if not named:
        return {}
    scratch.mkdir(parents=True, exist_ok=True)
    distinct = sorted({text.strip() for text in texts} - {""})
    found = {}
    threads = section.threads or count_threads()
    log.say(f"{counted(len(named), 'classifier')}: {counted(len(distinct), 'different answer')}")
    with log.progress("classifiers", len(named)) as bar, Workers(threads) as workers:
        for name, one in named.items():
            where = f"bench.fairness.classifier.{name}"
            classifier = describe_classifier(resolve_model(one.model), one.label, where)
            digest = hash_source(classifier.folder)
            job = {
                "classifier": str(classifier.folder), "index": classifier.index,
                "function": classifier.function, "sha256": digest, "device": device,
                "threads": threads,
            }  # fmt: skip
            result = _run(name, job, distinct, scratch, workers)
            cut = (text for text, is_cut in zip(distinct, result["cut"], strict=True) if is_cut)
            values = dict(zip(distinct, result["probabilities"], strict=True))
            shown = Path(one.model).name if Path(one.model).is_dir() else one.model
            found[name] = TextProbabilities(classifier, shown, digest, values, frozenset(cut))
            bar.update(1, now=name)
    return found


def _run(
    name: str, job: dict[str, Any], texts: list[str], scratch: Path, workers: Workers
) -> dict[str, Any]:
    """Return what the worker found, or an earlier call for the same job."""
    stem = f"classifier-{name}"
    work = json.dumps(texts)
    write_atomic(scratch / f"{stem}.texts.json", work)
    job = {
        **job, "texts": str(scratch / f"{stem}.texts.json"),
        "texts_sha256": hashlib.sha256(work.encode()).hexdigest(),
        "result": str(scratch / f"{stem}.json"),
    }  # fmt: skip
    path = Path(job["result"])
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if known.get("job") != job:
        file, stderr = scratch / f"{stem}.job.json", scratch / f"{stem}.stderr"
        write_atomic(file, json.dumps(job))
        code = workers.run(file, stderr)
        if code != 0:
            said = stderr.read_text(errors="replace")
            raise describe_end(f"classifier {name}", Path(job["classifier"]), code, said)
        known = json.loads(path.read_text(encoding="utf-8"))
    return dict(known)
