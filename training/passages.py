"""The unit of training text: a passage and the queries that are known to be about it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of text, where it came from, and queries whose right answer it is.

    `queries` may be empty: such a passage serves as a candidate only. `decoys` are texts that
    look like it and are wrong answers to its queries.
    """

    source: str
    text: str
    queries: tuple[str, ...] = ()
    decoys: tuple[str, ...] = ()
