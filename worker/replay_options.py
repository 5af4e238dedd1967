"""The flags of `python -m worker replay`."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from worker.errors import StartError
from worker.flags import read_settings
from worker.letters import Choice
from worker.settings import Settings

DESCRIPTION = """\
Send dead letters again: the original key, value and headers, to the topic that they came from.

  python -m worker replay --dry-run
  python -m worker replay --error-contains 'this worker has no index' --rate 50
  python -m worker replay --query-id q-1 --to rerank.queries.canary

A letter is sent and settled in one transaction: it is replayed once, however often this is run or
interrupted. Letters that the filters leave out stay for another time. Where and how Kafka is
reached is set as for the worker: RERANKER_KAFKA__… or flags such as --kafka.bootstrap-servers.
"""
_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class Options:
    """What to replay, and how."""

    choice: Choice
    group: str
    to: str | None
    limit: int | None
    rate: float | None
    dry_run: bool
    discard: bool
    as_json: bool


def parse(arguments: Sequence[str]) -> tuple[Options, Settings]:
    """Return the command's own flags, and the settings of all that is not one of them."""
    chosen, rest = _parser().parse_known_args(arguments)
    others = argparse.ArgumentParser("python -m worker replay", usage="%(prog)s [--SETTING VALUE]")
    settings = read_settings(others, rest)
    topics = settings.kafka.topics
    if chosen.to == topics.dead_letters:
        raise StartError("--to: letters can't be replayed onto the dead-letter topic itself")
    choice = Choice(
        topics=frozenset(chosen.topic or [topics.queries]),
        error_classes=frozenset(chosen.error_class),
        error_contains=chosen.error_contains,
        since_ms=chosen.since,
        until_ms=chosen.until,
        partitions=frozenset(chosen.partition),
        keys=frozenset(chosen.key),
        query_ids=frozenset(chosen.query_id),
        max_replays=chosen.max_replays,
    )
    return Options(
        choice=choice,
        group=chosen.group or f"{settings.kafka.group_id}.replay",
        to=chosen.to,
        limit=chosen.limit,
        rate=chosen.rate,
        dry_run=chosen.dry_run,
        discard=chosen.discard,
        as_json=chosen.json,
    ), settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m worker replay",
        usage="%(prog)s [FILTERS] [--dry-run] [--rate N] [--to TOPIC] [--SETTING VALUE ...]",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_filters(parser.add_argument_group("filters", "All must hold. Those marked * may repeat."))
    how = parser.add_argument_group("how")
    how.add_argument("--dry-run", action="store_true", help="only say what would be replayed")
    how.add_argument("--limit", type=_whole, metavar="N", help="stop after so many letters")
    how.add_argument("--rate", type=_rate, metavar="N", help="letters a second at most")
    how.add_argument("--to", metavar="TOPIC", help="send there, not to where they came from")
    how.add_argument(
        "--discard", action="store_true", help="settle the letters without sending them"
    )
    how.add_argument(
        "--group",
        metavar="NAME",
        help="consumer group that remembers what is settled (default: kafka.group_id + '.replay')",
    )
    how.add_argument("--json", action="store_true", help="one JSON object a letter on stdout")
    return parser


def _add_filters(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--error-class", action="append", default=[], metavar="NAME", help="*")
    group.add_argument("--error-contains", metavar="TEXT", help="part of dlq.error.message")
    group.add_argument(
        "--since",
        type=_time,
        metavar="TIME",
        help="became a letter at or after: 2026-01-31T12:00Z, or 2h ago as 2h (s, m, h, d)",
    )
    group.add_argument("--until", type=_time, metavar="TIME", help="became a letter before")
    group.add_argument(
        "--partition", type=int, action="append", default=[], help="* of the original topic"
    )
    group.add_argument("--key", action="append", default=[], help="* the record's key")
    group.add_argument(
        "--query-id", action="append", default=[], metavar="ID", help="* key, or id in the value"
    )
    group.add_argument(
        "--topic",
        action="append",
        metavar="NAME",
        help="* letters that came from it (default: kafka.topics.queries)",
    )
    group.add_argument(
        "--max-replays", type=_whole, metavar="N", help="not replayed N times or more before"
    )


def _whole(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _rate(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return number


def _time(text: str) -> int:
    """Return Unix milliseconds of a point in time, or of an age such as 90m."""
    age = _AGE.fullmatch(text)
    if age is not None:
        ago = timedelta(**{_UNITS[age[2]]: float(age[1])})
        return int((datetime.now(UTC) - ago).timestamp() * 1000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a time such as 2026-01-31T12:00Z nor an age such as 90m"
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
