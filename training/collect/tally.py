"""What could not be used: counted, the first ones quoted, and too large a share refused."""

from dataclasses import dataclass, field

from training.errors import InputError

QUOTED = 5
QUOTE_CHARS = 80
# So few records say nothing of a topic yet.
_ENOUGH = 100


@dataclass
class Tally:
    """Counts of one topic or file. `setting` names what allows more."""

    name: str
    max_bad_share: float
    read: int = 0
    bad: int = 0
    unknown: int = 0
    quotes: list[str] = field(default_factory=list)

    def add_bad(self, where: str, why: str, content: bytes | str | None) -> None:
        """Count one that can't be used, and quote the first few with their place."""
        self.bad += 1
        if len(self.quotes) < QUOTED:
            self.quotes.append(f"{where}: {why}: {quote(content)}")

    def check(self, *, at_end: bool = True) -> None:
        """Raise InputError where more is malformed than the plan allows."""
        if not at_end and self.read < _ENOUGH:
            return
        if self.bad > self.max_bad_share * self.read:
            shown = "".join(f"\n  {line}" for line in self.quotes)
            more = f"\n  and {self.bad - len(self.quotes)} more" if self.bad > QUOTED else ""
            raise InputError(
                f"{self.name}: {self.bad} of {self.read} are malformed "
                f"({self.bad / self.read:.0%}), more than collect.max_bad_share "
                f"({self.max_bad_share:.0%}) allows:{shown}{more}"
            )

    def summary(self) -> dict[str, object]:
        """Return it for the report."""
        found: dict[str, object] = {"read": self.read, "malformed": self.bad}
        if self.unknown:
            found["unknown_kinds"] = self.unknown
        if self.quotes:
            found["first_malformed"] = self.quotes
        return found


def quote(content: bytes | str | None) -> str:
    """Return the beginning of a line or record, on one line and printable."""
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else content or ""
    cut = text.strip()[:QUOTE_CHARS]
    shown = "".join(sign if sign.isprintable() else "\ufffd" for sign in cut)
    return f"{shown!r}{' …' if len(text.strip()) > QUOTE_CHARS else ''}"
