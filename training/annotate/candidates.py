"""Which pairs a model is asked about: what was shown, and no person has judged."""

from collections.abc import Callable

from training.annotate.grading import Pair
from training.collect.store import event_files
from training.errors import InputError
from training.label.build import gather_judgements, wanted_ids
from training.label.clicks import ClickLog, judgement_events, read_clicks
from training.plan_data import LlmPlan
from training.run_folder import RunFolder
from training.seeds import seeded

Texts = Callable[[set[str]], dict[str, str]]


def candidates(run: RunFolder, plan: LlmPlan, seed: int, texts: Texts) -> list[Pair]:
    """Return pairs, whole queries in random order, so that a budget cuts off queries and not ranks.

    `texts` gives those of an index. Raises InputError where nothing was shown.
    """
    if not event_files(run, "impression"):
        raise InputError(
            "there are no impressions to annotate: run `python -m training collect` first"
        )
    events = judgement_events(run)
    log = read_clicks(run, wanted_ids(events), 0)
    judged = gather_judgements(events, log)
    best = _best(log, plan.documents_per_query)
    known = {doc_id: one.text for (_, doc_id), one in log.exposures.items() if one.text}
    known |= judged.texts
    known |= texts({doc_id for docs in best.values() for doc_id in docs} - known.keys())
    keys = sorted(best)
    seeded(seed, "annotate").shuffle(keys)
    return [
        Pair(*log.queries[key], doc_id, known[doc_id])
        for key in keys
        for doc_id in best[key]
        if (key, doc_id) not in judged.labels and known.get(doc_id, "").strip()
    ]


def _best(log: ClickLog, count: int) -> dict[str, list[str]]:
    """Return query key → its documents that stood highest, best first."""
    ranks: dict[str, list[tuple[int, str]]] = {}
    for (key, doc_id), exposure in log.exposures.items():
        ranks.setdefault(key, []).append((min(exposure.positions), doc_id))
    return {key: [doc_id for _, doc_id in sorted(found)[:count]] for key, found in ranks.items()}
