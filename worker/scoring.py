"""Pairs to scores: from the cache, from a pair that is being scored already, or from the lanes."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
import structlog

from engine.errors import QueryTooLongError
from engine.graph import Logits
from engine.lanes import Lanes, Scoring
from engine.pairs import EncodedPair, PairEncoder
from worker.caches import PairCache, PairKey
from worker.errors import BadRecordError
from worker.rank import Score

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class PairRequest:
    """A query and the documents to score for it."""

    query: str
    documents: Sequence[str]


@dataclass(frozen=True)
class Flight:
    """A pair that is being scored, and where the logits of its passages will stand."""

    logits: Scoring
    start: int
    end: int
    truncated: bool

    def land(self) -> Score | None:
        """Wait for the score; None when the pair could not be scored, even alone."""
        # The best passage counts; the maximum of NaN is NaN.
        logit = float(self.logits.result()[self.start : self.end].max())
        return Score(logit, self.truncated) if np.isfinite(logit) else None


@dataclass(frozen=True)
class PendingScores:
    """Scores of a batch between `begin` and `finish`."""

    keys: list[list[PairKey]]
    cached: Mapping[PairKey, Score]
    flights: Mapping[PairKey, Flight]
    own: Sequence[PairKey]
    bad: Mapping[int, BadRecordError]
    logits: Scoring
    tokens: int

    @cached_property
    def futures(self) -> frozenset[Future[Logits]]:
        """What it waits for: its own pairs, and those that an earlier batch has in work."""
        return frozenset({self.logits, *(flight.logits for flight in self.flights.values())})

    def hits(self, request: int) -> int:
        """Return how many pairs of a request came from the cache."""
        return sum(key in self.cached for key in self.keys[request])

    def new_pairs(self, requests: Iterable[int]) -> int:
        """Return how many pairs of these requests the lanes were given."""
        asked = {key for request in requests for key in self.keys[request]}
        return len(asked.intersection(self.own))


@dataclass(frozen=True)
class Scores:
    """What became of a batch: for each request its scores (None: could not be scored).

    `late` are the requests of which some pairs were given up, because the time was up.
    """

    of_request: list[list[Score | None]]
    bad: Mapping[int, BadRecordError]
    scorer_failed: bool
    late: frozenset[int] = frozenset()


class PairScorer:
    """Scores each pair once, however often it is asked for.

    `begin` and `finish` may run on two threads; each on one only.
    """

    def __init__(self, encoder: PairEncoder, lanes: Lanes, cache: PairCache) -> None:
        self._encoder = encoder
        self._lanes = lanes
        self._cache = cache
        self._flights: dict[PairKey, Flight] = {}

    def begin(self, requests: Sequence[PairRequest]) -> PendingScores:
        """Look pairs up, hand the unknown ones to the lanes, and return at once."""
        keys = [self._cache.keys(request.query, request.documents) for request in requests]
        cached = self._look_up(keys)
        flights, missing = self._in_flight(keys, cached)
        bad: dict[int, BadRecordError] = {}
        pairs: dict[PairKey, list[EncodedPair]] = {}
        for number, request in enumerate(requests):
            try:
                pairs.update(self._encode(request, keys[number], missing))
            except QueryTooLongError as error:
                bad[number] = BadRecordError(str(error))
            except Exception as error:
                # Nobody knows a text that does this; if there is one, it must fail alone.
                log.exception("a query's pairs could not be tokenised")
                bad[number] = BadRecordError(f"could not be tokenised: {type(error).__name__}")
        flat = [passage for passages in pairs.values() for passage in passages]
        logits = self._lanes.submit(flat)
        ends = accumulate(len(passages) for passages in pairs.values())
        own = {
            key: Flight(logits, end - len(passages), end, passages[0].truncated)
            for end, (key, passages) in zip(ends, pairs.items(), strict=True)
        }
        self._flights.update(own)
        return PendingScores(
            keys=keys,
            cached=cached,
            flights=flights | own,
            own=list(own),
            bad=bad,
            logits=logits,
            tokens=sum(len(passage.ids) for passage in flat),
        )

    def finish(self, pending: PendingScores) -> Scores:
        """Wait for the lanes, keep what is new, and return all scores."""
        landed = {key: flight.land() for key, flight in pending.flights.items()}
        fresh = {key: score for key in pending.own if (score := landed[key]) is not None}
        self._cache.put(fresh)
        self._forget(pending.own)
        known: dict[PairKey, Score | None] = {**pending.cached, **landed}
        late = {
            key
            for key, flight in pending.flights.items()
            if landed[key] is None and flight.logits.stopped
        }
        return Scores(
            of_request=[
                [] if number in pending.bad else [known[key] for key in keys]
                for number, keys in enumerate(pending.keys)
            ],
            bad=pending.bad,
            scorer_failed=_all_failed([landed[key] for key in pending.own if key not in late])
            or _all_failed([score for key, score in landed.items() if key not in late]),
            late=frozenset(
                number for number, keys in enumerate(pending.keys) if not late.isdisjoint(keys)
            ),
        )

    def discard(self, pending: PendingScores) -> None:
        """Give up a batch: what has not been scored yet never will be."""
        pending.logits.cancel()
        self._forget(pending.own)

    def _look_up(self, keys: Sequence[Sequence[PairKey]]) -> dict[PairKey, Score]:
        unique = list(dict.fromkeys(key for row in keys for key in row))
        found = zip(unique, self._cache.get(unique), strict=True)
        return {key: score for key, score in found if score is not None}

    def _in_flight(
        self, keys: Sequence[Sequence[PairKey]], cached: Mapping[PairKey, Score]
    ) -> tuple[dict[PairKey, Flight], set[PairKey]]:
        wanted = {key for row in keys for key in row if key not in cached}
        # `get` and not `in`: the other thread may forget a flight between the two.
        # What was stopped will never be scored by that flight.
        flights = {
            key: flight
            for key in wanted
            if (flight := self._flights.get(key)) is not None and not flight.logits.stopped
        }
        return flights, wanted - flights.keys()

    def _encode(
        self, request: PairRequest, keys: Sequence[PairKey], missing: set[PairKey]
    ) -> dict[PairKey, list[EncodedPair]]:
        todo = {
            key: document
            for key, document in zip(keys, request.documents, strict=True)
            if key in missing
        }
        if not todo:
            return {}
        query = self._encoder.encode_query(request.query)
        passages = self._encoder.encode_passages(query, list(todo.values()))
        return dict(zip(todo, passages, strict=True))

    def _forget(self, keys: Sequence[PairKey]) -> None:
        for key in keys:
            self._flights.pop(key, None)


def _all_failed(scores: Sequence[Score | None]) -> bool:
    """One pair that fails is a bad pair; when all of several fail, it is the scorer."""
    return len(scores) > 1 and all(score is None for score in scores)
