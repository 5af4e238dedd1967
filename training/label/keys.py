"""What makes two questions the same, and which split a question belongs to."""

import hashlib
import unicodedata

from training.label_rows import Split
from training.plan_data import SplitPlan

PairKey = tuple[str, str]  # query key, document id


def normalise(query: str) -> str:
    """Return the question without differences of case, spacing and Unicode form."""
    return " ".join(unicodedata.normalize("NFKC", query).casefold().split())


def query_key(query: str, tenant: str | None) -> str:
    """Return one id for all times that a tenant's users asked the same."""
    return "q-" + _hash(f"{tenant or ''}\0{normalise(query)}")[:16]


def text_id(text: str) -> str:
    """Return an id for a document that came without one."""
    return "text-" + _hash(text)[:16]


def split_of(query: str, plan: SplitPlan) -> Split:
    """Return the split of a question, by nothing but its text: it's the same in every run."""
    place = int(_hash(normalise(query))[:12], 16) / 16**12
    if place < plan.test:
        return "test"
    return "dev" if place < plan.test + plan.dev else "train"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
