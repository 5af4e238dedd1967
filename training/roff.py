"""Manual pages' source (roff) to plain text, section by section.

Not a formatter: it reads what the man and mdoc macros mark as prose, and drops tables, listings
and conditionals. A page that it can't make sense of gives little text, never an error.
"""

import re
from collections.abc import Iterator

_ESCAPES = (
    (re.compile(r"\\[fF](?:\[[^\]]*\]|\(..|.)|\\s[-+]?\d+|\\[&|^/,:%~)]|\\[hv]'[^']*'"), ""),
    (re.compile(r"\\\((?:aq|cq|oq|dq)|\\\*\(Aq|\\\[aq\]"), "'"),
    (re.compile(r"\\\((?:lq|rq)|\\\*[LR]?\(?q?"), '"'),
    (re.compile(r"\\\((?:em|en)|\\-"), "-"),
    (re.compile(r"\\e|\\\(rs"), "\0"),  # a backslash, once all others are gone
    (re.compile(r"\\\((?:..)|\\\[[^\]]*\]|\\\*\(..|\\."), " "),
)
_FONT = re.compile(r"^\.\s*(?:B|I|BR|RB|IR|RI|BI|IB|SM|SB)\b\s*(.*)$")
_MDOC = re.compile(
    r"^\.\s*(?:Nm|Fl|Ar|Op|Pa|Xr|Cm|Ql|Sq|Dq|Em|Sy|Li|Va|Fa|Fn|Ft|Dv|Er|Ev|Ic|Pq|Ns|No)\b\s*(.*)$"
)
_CALLED = re.compile(r"\b(?:Nm|Fl|Ar|Op|Pa|Xr|Cm|Ql|Sq|Dq|Em|Sy|Li|Va|Fa|Dv|Ns|No)\b\s?")
_HEADING = re.compile(r'^\.\s*(?:SH|Sh|SS|Ss)\s+"?([^"]*)"?\s*$')
_BREAK = re.compile(r"^\.\s*(?:PP|P|LP|TP|IP|It|Pp|HP|sp|RS|RE|TQ)\b")
_LISTING = re.compile(r"^\.\s*(nf|EX|TS|Bd|ie|de|ig)\b")
_END = {"nf": "fi", "EX": "EE", "TS": "TE", "Bd": "Ed", "de": ".", "ig": "."}


def plain(text: str) -> str:
    """One line of roff without its escapes."""
    for pattern, by in _ESCAPES:
        text = pattern.sub(by, text)
    return text.replace('"', "").replace("\0", "\\").strip()


def paragraphs(source: str) -> Iterator[tuple[str, str]]:
    """(section heading, paragraph) of a page, in order, each on one line."""
    heading, words = "", list[str]()
    until: str | None = None
    for line in source.splitlines():
        if until is not None:
            until = None if re.match(rf"^\.\s*{re.escape(until)}\b|^\.\.$", line) else until
            continue
        if (listing := _LISTING.match(line)) and listing[1] in _END:
            until = _END[listing[1]]
        elif found := _HEADING.match(line):
            yield from _told(heading, words)
            heading, words = plain(found[1]).title(), []
        elif _BREAK.match(line):
            yield from _told(heading, words)
            words = []
        else:
            words.append(_prose(line))
    yield from _told(heading, words)


def _prose(line: str) -> str:
    if font := _FONT.match(line):
        return plain(font[1])
    if macro := _MDOC.match(line):
        return plain(_CALLED.sub("", macro[1]))
    return "" if line.startswith((".", "'")) else plain(line)


def _told(heading: str, words: list[str]) -> Iterator[tuple[str, str]]:
    text = " ".join(" ".join(words).split())
    text = re.sub(r" ([,.;:)])", r"\1", text)
    if text:
        yield heading, text
