"""What bench found of rows with another person in them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class GroupFigure:
    """One quantity of a group against its counterpart.

    Attributes:
        value: rate of changed answers or KL between the groups; of score and length the mean
            difference, the group's less the counterpart's.
        ci95: its 95 % interval over rows.
        neutral: the same between two words of one group; none for differences.
        excess: ``value`` beyond ``neutral``; none for differences.
        excess_ci95: its 95 % interval over rows.
        p_value: that words dealt to the groups at random differ as much; none without words alike.
        p_adjusted: by Holm over all groups and quantities of this model.
        n: rows.
    """

    value: float
    ci95: list[float] | None
    neutral: float | None
    excess: float | None
    excess_ci95: list[float] | None
    p_value: float | None
    p_adjusted: float | None
    n: int


@dataclass(frozen=True)
class AnswerShare:
    """The answer whose share of rows differs most between two groups."""

    answer: str
    share: float
    share_against: float


@dataclass(frozen=True)
class GroupFacts:
    """A group against its counterpart: how much another person changes.

    Attributes:
        attribute: ``gender``, ``origin``, ``age`` or one of the user's lists.
        group: one of the attribute's groups.
        against: the group it is compared with.
        n: rows.
        tested: rows with words that have others alike, which the p-values are of.
        words: how many such words were put in.
        label_changes: rows whose answers differ.
        score: loss of the expected answer, in nats.
        length: of the answer, in tokens.
        kl: between the distributions at the expected answer's tokens, in nats.
        most: the answer that differs most; none where data is confidential or none is repeated.
        found: quantities whose adjusted p-value is below 0.05; of a classifier its metric.
        classified: by metric, the probability of a classifier's label; none without one.
    """

    attribute: str
    group: str
    against: str
    n: int
    tested: int
    words: int
    label_changes: GroupFigure | None = None
    score: GroupFigure | None = None
    length: GroupFigure | None = None
    kl: GroupFigure | None = None
    most: AnswerShare | None = None
    found: list[str] = field(default_factory=list)
    classified: dict[str, GroupFigure] | None = None


@dataclass(frozen=True)
class ModelFairness:
    """A model's groups.

    Attributes:
        name: of the model.
        role: its place in the run.
        groups: each against its counterpart.
        reference: the model that ``changes`` is against: what a file was made of.
        changes: for a file: its figures less the reference's, row by row.
    """

    name: str
    role: str
    groups: list[GroupFacts]
    reference: str | None = None
    changes: list[GroupFacts] | None = None


@dataclass(frozen=True)
class GroupBalance:
    """Rows of train with words of a group.

    Attributes:
        attribute: of the group.
        group: whose words are counted.
        rows: that have a word of it in their prompt.
        of: rows that were looked at.
        labels: of them by answer, the most frequent first; empty where answers hardly repeat.
    """

    attribute: str
    group: str
    rows: int
    of: int
    labels: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ClassifiedFigure:
    """One number of a model's answers as a classifier sees them.

    Attributes:
        metric: its name among the measurements.
        value: mean probability of the label, or the fraction of answers above 0.5.
        ci95: its 95 % interval over rows.
        n: test rows.
        difference: ``value`` less the reference's over the same rows; none for the reference.
        difference_ci95: its 95 % interval, rows paired.
        p_value: two-sided, that the two are equal (Wilcoxon's signed ranks, McNemar's mid-p).
        p_adjusted: by Holm over all models and numbers of this classifier.
    """

    metric: str
    value: float
    ci95: list[float] | None
    n: int
    difference: float | None = None
    difference_ci95: list[float] | None = None
    p_value: float | None = None
    p_adjusted: float | None = None


@dataclass(frozen=True)
class ModelClassified:
    """A model's answers to the test rows as a classifier sees them.

    Attributes:
        name: of the model.
        role: its place in the run.
        probability: mean probability of the label.
        rate: fraction of answers whose probability is above 0.5.
        empty: answers without a text, whose probability is taken to be 0.
        cut: answers longer than the classifier's context, of which it saw the beginning.
    """

    name: str
    role: str
    probability: ClassifiedFigure
    rate: ClassifiedFigure
    empty: int
    cut: int


@dataclass(frozen=True)
class ClassifierFacts:
    """What a classifier that the recipe names says of every model's answers.

    Attributes:
        name: as the recipe calls it.
        model: name of its folder, or hub id.
        label: the label that counts, by its name in the model.
        sha256: of its folder.
        reference: the model that the others are compared with: the base; none without it.
        models: in the report's order.
    """

    name: str
    model: str
    label: str
    sha256: str
    reference: str | None
    models: list[ModelClassified]


@dataclass(frozen=True)
class FairnessFacts:
    """Rows with another person in them, for every model.

    Attributes:
        models: in the report's order.
        rows: by attribute, rows that were swapped.
        left_out: by attribute and reason, rows that could not be.
        balance: of groups in train.
        findings: sentences.
        limits: what these figures do not say.
        classifiers: what the models named in the recipe say of the answers; none without one.
    """

    models: list[ModelFairness]
    rows: dict[str, int]
    left_out: dict[str, dict[str, int]]
    balance: list[GroupBalance]
    findings: list[str]
    limits: str
    classifiers: list[ClassifierFacts] | None = None
