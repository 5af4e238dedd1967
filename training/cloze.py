"""Factoid questions made from statements, by rule.

A statement that holds a date, a number, or a name becomes a question that asks for it. The same
statement without that part is a hard negative: it is on the topic and does not hold the answer.
"""

import re
from dataclasses import dataclass
from random import Random

_MONTH = (
    r"(?:January|February|March|April|May|June|July|August|September|October|November|"
    r"December|Jan\.|Feb\.|Aug\.|Sept\.|Oct\.|Nov\.|Dec\.)"
)
_DATE = re.compile(
    rf"\b(?:in|on|since|by|from|until|during)?\s*(?:the\s+)?"
    rf"(?:{_MONTH}(?:\s+\d{{1,2}})?(?:\s*,?\s*(?:1[5-9]|20)\d\d)?|(?:1[5-9]|20)\d\d)\b"
)
_NUMBER = re.compile(
    r"(?<![\w.,$-])(?:about |more than |some |nearly |over )?"
    r"(\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?)"
    r"(?: (?:million|billion|percent|per cent))? (?=([a-z]{3,}))"
)
_MONEY = re.compile(r"(?:about |more than |nearly |over )?\$ ?\d[\d,.]*(?: (?:million|billion))?")
_NAME = re.compile(r"\b(?:(?:[A-Z][a-z]+|[A-Z]\.) ){1,2}[A-Z][a-z]{2,}\b")
_PLACE = re.compile(r"\b(?:in|at|near|from) ((?:[A-Z][a-z]+)(?:(?: |, )[A-Z][a-z]+){0,2})\b")
_STOP = frozenset(
    """
    the a an of and or but that which who whom to was were is are be been has have had
    it its he she they his her their this these those with as by for at from on in not
    said says also
    """.split()  # noqa: SIM905 - a list of words reads better as words
)


@dataclass(frozen=True, slots=True)
class Cloze:
    """A question, the statement that answers it, and the same statement without the answer."""

    question: str
    answer: str
    hollow: str


def _topic(text: str, rng: Random) -> str:
    """Most of the content words of `text`, in order."""
    words = [w for w in re.findall(r"[\w'$.-]*\w", text) if w.lower() not in _STOP]
    if len(words) > 9:
        start = rng.randrange(len(words) - 8)
        words = words[start : start + rng.randint(5, 8)]
    return " ".join(w for w in words if rng.random() < 0.85)


def _candidates(text: str, rng: Random) -> list[tuple[re.Match[str], str]]:
    found: list[tuple[re.Match[str], str]] = []
    for pattern, starts in (
        (_DATE, ("When did", "When was", "What year", "In what year", "What date")),
        (_MONEY, ("How much", "How much money", "What was the cost")),
        (_PLACE, ("Where", "Where was", "In what city", "What country", "Where is")),
        (_NAME, ("Who", "Who was", "Who is", "What is the name")),
    ):
        found += [(m, rng.choice(starts)) for m in pattern.finditer(text)]
    found += [(m, f"How many {m[2]}") for m in _NUMBER.finditer(text)]
    return found


def make_cloze(text: str, rng: Random) -> Cloze | None:
    """One question from `text`, or None when nothing in it can be asked for."""
    found = _candidates(text, rng)
    if not found or len(text.split()) < 8:
        return None
    match, start = rng.choice(found)
    hollow = " ".join((text[: match.start()] + " " + text[match.end() :]).split())
    topic = _topic(hollow, rng)
    if len(topic.split()) < 3:
        return None
    end = rng.choice(["?", "?", " ?", ""])
    return Cloze(f"{start} {topic}{end}", text, hollow)
