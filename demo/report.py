"""What the demo shows: lists before and after, and figures. At most 100 columns wide."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from demo.asking import Answered
from demo.figures import Pass
from schemas.events import RankedDocument

WIDTH = 100
SHOWN = 5


def make_console() -> Console:
    """Return a console that is never wider than the report; plain where it is no terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        return Console(highlight=False, width=WIDTH, color_system=None)
    return Console(highlight=False, width=min(console.width, WIDTH))


def movement(before: int, after: int) -> str:
    """Return how a document moved: `▲3` up three places, `▼2` down two, `=` not at all."""
    if before == after:
        return "="
    return f"▲{before - after}" if after < before else f"▼{after - before}"


def snippet(text: str, chars: int = WIDTH) -> str:
    """Return the first words of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= chars else line[: chars - 1].rstrip() + "…"


def comparison(answer: Answered, texts: Mapping[str, str], shown: int = SHOWN) -> Table:
    """Return the first documents in retrieval order beside the first after reranking.

    Arrows say how far a document went: on the left those that were first, on the right those
    that are first now. `texts` maps ids to texts.
    """
    ranking = answer.ranked.ranking
    retrieved = sorted(ranking, key=lambda document: document.retrieval_rank)
    table = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False, title_justify="left")
    table.title = Text(answer.question, "bold")
    table.add_column("")
    for header in ("before: retrieval order", "after reranking"):
        table.add_column(header, ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column("", justify="right", no_wrap=True)
    for place, (old, new) in enumerate(zip(retrieved[:shown], ranking[:shown], strict=True), 1):
        table.add_row(
            str(place), _document(old, texts), _arrow(old), _document(new, texts), _arrow(new)
        )
    return table


def figures(passes: Sequence[Pass]) -> Table:
    """Return a row of figures for each pass."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for column in ("questions", "queries/s", "pairs/s", "p50 ms", "p95 ms", "from the cache"):
        table.add_column(column, justify="right")
    for each in passes:
        table.add_row(
            each.name,
            str(len(each.answers)),
            f"{each.queries_per_s:,.1f}",
            f"{each.pairs_per_s:,.0f}",
            f"{each.latency_ms(50):,.0f}",
            f"{each.latency_ms(95):,.0f}",
            f"{each.hits:,} of {each.pairs:,} ({each.hit_ratio:.0%})",
        )
    return table


def _document(document: RankedDocument, texts: Mapping[str, str]) -> Text:
    return Text.assemble(document.doc_id, "\n", (snippet(texts.get(document.doc_id, "")), "dim"))


def _arrow(document: RankedDocument) -> Text:
    moved = movement(document.retrieval_rank, document.rank)
    return Text(moved, {"▲": "green", "▼": "red"}.get(moved[0], "dim"))
