"""From what was collected to labelled rows: who says what of each pair, and what is left out."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from training.annotate.pairs import Annotated
from training.errors import InputError
from training.label.agreement import Agreement, Verdict, measure, verdict
from training.label.clicks import ClickLog, label_and_weight
from training.label.keys import PairKey, normalise, query_key, split_of, text_id
from training.label.propensity import Propensities
from training.label_rows import LabelRow, LabelSource
from training.plan_data import LabelPlan

Texts = dict[str, str]  # document id → text


@dataclass
class Judgements:
    """What people said. `unknown` counts judgements whose `query_id` nobody asked."""

    labels: dict[PairKey, dict[str, float]] = field(default_factory=dict)
    queries: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    texts: Texts = field(default_factory=dict)
    unknown: int = 0


@dataclass(frozen=True)
class Dispute:
    """A pair that annotators see too differently, for `disagreements.csv`."""

    query: str
    doc_id: str
    text: str
    labels: Mapping[str, float]
    label: float
    weight: float


@dataclass(frozen=True)
class Evidence:
    """All that was said of pairs, and what corrects the clicks for their positions."""

    log: ClickLog
    judgements: Judgements
    annotated: list[Annotated]
    propensities: Propensities


@dataclass(frozen=True)
class Labelled:
    """The rows, and what a report says of how they came to be."""

    rows: list[LabelRow]
    evidence: Evidence
    disputes: list[Dispute]
    agreement: Agreement
    without_text: int


def wanted_ids(events: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the query ids that judgements name."""
    return {event["query_id"] for event in events if event["query_id"] is not None}


def gather_judgements(events: Iterable[Mapping[str, Any]], log: ClickLog) -> Judgements:
    """Group judgements by pair; of one annotator's, the latest counts.

    A `query_id` that was asked says question and tenant; otherwise the judgement's own count.
    """
    found = Judgements()
    for event in events:
        asked = log.asked.get(event["query_id"])
        query, tenant = (event["query"], event["tenant"]) if asked is None else log.queries[asked]
        if query is None:
            found.unknown += 1
            continue
        key = query_key(query, tenant)
        doc_id = event["doc_id"] or text_id(event["text"])
        found.queries.setdefault(key, (query, tenant))
        if event["text"]:
            found.texts[doc_id] = event["text"]
        found.labels.setdefault((key, doc_id), {})[event["annotator"]] = event["label"]
    return found


def check_queries(queries: Mapping[str, tuple[str, str | None]]) -> None:
    """Raise InputError where there is nothing to learn from, or nothing to hold out."""
    if not queries:
        raise InputError(
            "there is nothing to label: no impression with clicks and no judgement was collected. "
            "Run `python -m training collect` first, with the same --run"
        )
    different = {normalise(query) for query, _ in queries.values()}
    if len(different) == 1:
        raise InputError(
            f"all queries are identical ({next(iter(queries.values()))[0][:80]!r}): a split by "
            "query needs different ones; check what applications write into `query`"
        )


def missing_texts(log: ClickLog, judgements: Judgements) -> set[str]:
    """Return the documents that only an index can give the text of."""
    shown = {doc_id for (_, doc_id), exposure in log.exposures.items() if exposure.text is None}
    judged = {doc_id for _, doc_id in judgements.labels} - judgements.texts.keys()
    with_text = {doc_id for (_, doc_id), one in log.exposures.items() if one.text is not None}
    return (shown - judgements.texts.keys() - with_text) | (judged - with_text)


def build(evidence: Evidence, texts: Texts, plan: LabelPlan) -> Labelled:
    """Label each pair once: a judgement before a machine's label, that before clicks.

    `texts` are those of the index. Raises InputError where no document is positive.
    """
    log, judgements = evidence.log, evidence.judgements
    builder = _Builder(plan, log, {**judgements.queries, **log.queries}, dict(texts))
    builder.add_texts(log, judgements)
    builder.add_judgements(judgements)
    builder.add_annotated(evidence.annotated)
    builder.add_clicks(log, evidence.propensities)
    if not any(row.label > 0 for row in builder.rows.values()):
        raise InputError(_no_positives(builder, log, judgements))
    return Labelled(
        sorted(builder.rows.values(), key=lambda row: (row.query_id, -row.label, row.doc_id)),
        evidence,
        builder.disputes,
        measure(_with_machines(judgements, evidence.annotated)),
        builder.without_text,
    )


def _no_positives(builder: "_Builder", log: ClickLog, judgements: Judgements) -> str:
    hint = (
        f"{builder.without_text} pairs have no text: set label.index_bundle, or the worker's "
        "feedback.text to `always`"
        if builder.without_text
        else "check that clicks and judgements name the ids that the impressions have"
    )
    return (
        f"there are no positives: {log.clicks} clicks on {log.impressions} impressions, "
        f"{len(judgements.labels)} judged pairs, and none says that a document is right; {hint}"
    )


def _with_machines(judgements: Judgements, machine: Iterable[Annotated]) -> dict[PairKey, Any]:
    """Return who said what, with a machine beside the people where both judged."""
    found: dict[PairKey, dict[str, float]] = defaultdict(dict)
    for pair, labels in judgements.labels.items():
        found[pair] |= labels
    for one in machine:
        pair = (query_key(one.query, one.tenant), one.doc_id)
        if pair in judgements.labels:
            found[pair][one.annotator] = one.label
    return found


@dataclass
class _Builder:
    plan: LabelPlan
    log: ClickLog
    queries: dict[str, tuple[str, str | None]]
    texts: Texts
    rows: dict[PairKey, LabelRow] = field(default_factory=dict)
    by_text: dict[str, str] = field(default_factory=dict)  # text → id, of documents with an id
    settled: set[PairKey] = field(default_factory=set)
    disputes: list[Dispute] = field(default_factory=list)
    without_text: int = 0

    def add_texts(self, log: ClickLog, judgements: Judgements) -> None:
        self.texts |= {
            doc_id: one.text for (_, doc_id), one in log.exposures.items() if one.text is not None
        }
        self.texts |= judgements.texts
        self.by_text = {
            text: doc_id for doc_id, text in self.texts.items() if doc_id != text_id(text)
        }

    def add_judgements(self, judgements: Judgements) -> None:
        for pair, labels in judgements.labels.items():
            found = verdict(labels, self.plan.agreement)
            if found.disputed:
                self._dispute(pair, labels, found)
            self._add(pair, found.label, found.weight, "judgement")

    def add_annotated(self, annotated: Iterable[Annotated]) -> None:
        for one in annotated:
            key = query_key(one.query, one.tenant)
            self.queries.setdefault(key, (one.query, one.tenant))
            # Another pair may have another part of the same document: a title has its whole body.
            self._add((key, one.doc_id), one.label, one.weight, "annotated", one.text)

    def add_clicks(self, log: ClickLog, propensities: Propensities) -> None:
        if log.clicks == 0:
            return  # where nobody ever clicked, no click says nothing
        for pair, exposure in log.exposures.items():
            label, weight = label_and_weight(exposure, propensities, self.plan.clicks.clip)
            self._add(pair, label, weight, "click")

    def _add(
        self,
        pair: PairKey,
        label: float,
        weight: float,
        source: LabelSource,
        text: str | None = None,
    ) -> None:
        """Add a row unless there is a better source's; weight 0 leaves the pair out for good."""
        key, doc_id = pair
        text = self.texts.get(doc_id, "") if text is None else text
        # A judgement of a bare text is one of the document that was shown with that text.
        pair = (key, self.by_text.get(text, doc_id) if doc_id == text_id(text) else doc_id)
        if pair in self.settled:
            return
        self.settled.add(pair)
        if not text.strip():
            self.without_text += 1
            return
        if weight <= 0:
            return
        query, tenant = self.queries[key]
        exposure = self.log.exposures.get(pair)
        self.rows[pair] = LabelRow(
            query_id=key,
            query=query,
            tenant=tenant,
            doc_id=pair[1],
            text=text,
            label=label,
            weight=weight,
            split=split_of(query, self.plan.split),
            source=source,
            retrieval_rank=None if exposure is None else exposure.retrieval_rank,
        )

    def _dispute(self, pair: PairKey, labels: Mapping[str, float], found: Verdict) -> None:
        key, doc_id = pair
        text = self.texts.get(doc_id, "")
        self.disputes.append(
            Dispute(self.queries[key][0], doc_id, text, dict(labels), found.label, found.weight)
        )
