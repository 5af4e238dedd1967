"""A second model beside the first: who answers which query, and how two rankings become one.

Everything follows from hashes of the event, so that replay, another worker, and the same work done
again give the same assignment and the same list.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from schemas.events import Arm, Experiment, ModelRef, QueryEvent, RankedDocument, Team
from schemas.manifests import Fusion
from worker.admission import pairs_of
from worker.decode import Query
from worker.scoring import PairScorer

BUCKETS = 1_000
ATTRIBUTE = "attributes."


@dataclass(frozen=True)
class Trial:
    """What is compared, in which way, and for which share of the traffic.

    `by` is `query_id`, `tenant` or `attributes.NAME`: those who agree in it are treated alike.
    """

    name: str
    mode: Literal["split", "interleave"]
    share: float
    by: str
    champion: ModelRef
    challenger: ModelRef

    def assign(self, event: QueryEvent) -> Experiment | None:
        """Return the event's part in it; None where it has none, and the champion answers."""
        unit = self._unit(event)
        if unit is None:
            return None
        bucket = _hash(self.name, unit) % BUCKETS
        chosen = bucket < round(self.share * BUCKETS)
        if self.mode == "interleave":
            return self._experiment("interleaved", bucket) if chosen else None
        return self._experiment("challenger" if chosen else "champion", bucket)

    def pairs_of(self, query: Query) -> int:
        """Return the most pairs that a query can ask for, of both models together."""
        experiment = self.assign(query.event) if self.mode == "interleave" else None
        return pairs_of(query) * (1 if experiment is None else 2)

    def coins(self, event: QueryEvent) -> Iterator[bool]:
        """Yield the event's own coin flips, True for the challenger."""
        flip = 0
        while True:
            yield _hash(self.name, event.query_id, str(flip)) % 2 == 1
            flip += 1

    def _unit(self, event: QueryEvent) -> str | None:
        if self.by == "query_id":
            return event.query_id
        if self.by == "tenant":
            return event.tenant
        return event.attributes.get(self.by.removeprefix(ATTRIBUTE))

    def _experiment(self, arm: Arm, bucket: int) -> Experiment:
        return Experiment(
            name=self.name,
            mode=self.mode,
            by=self.by,
            share=self.share,
            arm=arm,
            bucket=bucket,
            champion=self.champion,
            challenger=self.challenger,
        )


@dataclass(frozen=True)
class Challenger:
    """The second model; its scores have keys of their own in the cache."""

    scorer: PairScorer
    model: ModelRef
    trial: Trial
    fusion: Fusion | None = None


def team_draft(
    champion: Sequence[RankedDocument],
    challenger: Sequence[RankedDocument],
    top_n: int,
    coins: Iterator[bool],
) -> tuple[tuple[RankedDocument, ...], tuple[Team, ...]]:
    """Interleave two rankings of the same documents; returns the list and who picked each entry.

    In each round both teams pick the best of their ranking that is not in the list yet, and a coin
    says who begins (team-draft interleaving: Radlinski, Kurup and Joachims, CIKM 2008). So each
    team has as many entries as the other, at places that favour neither. Entries keep the score
    of the team that picked them.
    """
    order: list[RankedDocument] = []
    teams: list[Team] = []
    # By place and not by doc_id: an index may hold several chunks of one document.
    shown: set[int] = set()
    rankings: dict[Team, Iterator[RankedDocument]] = {
        "champion": iter(champion),
        "challenger": iter(challenger),
    }
    size = min(top_n, len(champion))
    while len(order) < size:
        first: tuple[Team, Team] = (
            ("challenger", "champion") if next(coins) else ("champion", "challenger")
        )
        for team in first[: size - len(order)]:
            picked = next(each for each in rankings[team] if each.retrieval_rank not in shown)
            shown.add(picked.retrieval_rank)
            order.append(picked.model_copy(update={"rank": len(order) + 1}))
            teams.append(team)
    return tuple(order), tuple(teams)


def _hash(*parts: str) -> int:
    text = "\0".join(parts).encode(errors="surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")
