"""Passages from WordNet 3.0's glosses (Debian package `wordnet-base`, WordNet licence).

Besides common words, WordNet knows some thousands of people, places and events with dates,
which make factoid questions: who, when, where.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from random import Random

from training.passages import Passage

_FILES = ("data.noun", "data.verb", "data.adj", "data.adv")
_YEARS = re.compile(r"\((?:born (?:in )?)?(\d{3,4})(?:-(\d{3,4}))?\)")
_PEOPLE = {"18"}  # lexicographer files: noun.person
_PLACES = {"15"}  # noun.location


@dataclass(frozen=True, slots=True)
class Synset:
    """One sense: its words, its gloss without examples, its examples."""

    lexfile: str
    kind: str
    lemmas: tuple[str, ...]
    definition: str
    examples: tuple[str, ...]
    is_instance: bool


def read_synset(line: str) -> Synset:
    """A line of a WordNet data file (format: the manual page wndb(5WN))."""
    head, _, gloss = line.partition(" | ")
    fields = head.split()
    n_words = int(fields[3], 16)
    lemmas = tuple(
        re.sub(r"\(\w+\)$", "", w).replace("_", " ") for w in fields[4 : 4 + 2 * n_words : 2]
    )
    parts = [p.strip() for p in gloss.strip().split('; "')]
    examples = tuple(p.strip('" ;') for p in parts[1:])
    return Synset(fields[1], fields[2], lemmas, parts[0], examples, "@i" in fields)


def _person_questions(name: str, s: Synset, rng: Random) -> list[str]:
    questions = [
        rng.choice(
            [
                "Who was {}?",
                "Who is {}?",
                "What is {} famous for?",
                "What did {} do?",
                "Tell me about {}",
            ]
        ).format(name)
    ]
    if years := _YEARS.search(s.definition):
        questions.append(
            rng.choice(["When was {} born?", "In what year was {} born?"]).format(name)
        )
        if years[2]:
            questions.append(rng.choice(["When did {} die?", "What year did {} die?"]).format(name))
    description = _YEARS.sub("", s.definition).strip()
    questions.append(rng.choice(["Who was the {}?", "Name of the {}"]).format(description))
    return questions


def _place_questions(name: str, rng: Random) -> list[str]:
    return [
        rng.choice(
            ["Where is {}?", "Where is {} located?", "What country is {} in?", "What is {}?"]
        ).format(name)
    ]


def _word_questions(name: str, s: Synset, rng: Random) -> list[str]:
    verb = s.kind == "v"
    asked = f"to {name}" if verb else name
    questions = [
        rng.choice(
            [
                "What does it mean {}?" if verb else "What is {}?",
                "meaning of {}",
                "define {}",
                "What does {} mean?",
                "definition of {}",
            ]
        ).format(asked)
    ]
    if len(s.definition.split()) > 5:
        questions.append(
            rng.choice(["What do you call {}?", "a word for {}", "{}"]).format(s.definition)
        )
    return questions


def _passage(s: Synset, rng: Random) -> Passage:
    name = s.lemmas[0]
    if s.is_instance and s.lexfile in _PEOPLE:
        questions = _person_questions(name, s, rng)
    elif s.is_instance and s.lexfile in _PLACES:
        questions = _place_questions(name, rng)
    else:
        questions = _word_questions(name, s, rng)
    join = rng.choice([": ", " - ", " is ", ", "])
    text = f"{', '.join(s.lemmas[:3])}{join}{s.definition}"
    if s.examples and rng.random() < 0.7:
        text += ". " + ". ".join(s.examples)
    return Passage("wordnet", text, tuple(questions))


def wordnet_passages(folder: Path, rng: Random) -> list[Passage]:
    """Every sense with a gloss of at least four words.

    Raises FileNotFoundError when WordNet's files are not in `folder`.
    """
    found = []
    for name in _FILES:
        with (folder / name).open(encoding="latin-1") as lines:
            senses = (read_synset(line) for line in lines if not line.startswith("  "))
            found += [_passage(s, rng) for s in senses if len(s.definition.split()) >= 4]
    return found
