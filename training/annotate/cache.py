"""Answers of a language model on disk: an answer that was paid for is not asked for again."""

import hashlib
import json
import sqlite3
from pathlib import Path


class AnswerCache:
    """Grades by a hash of all that the answer depends on. For one thread; a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> "AnswerCache":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(self._path, isolation_level=None)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, grade INTEGER)"
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def get(self, key: str) -> int | None:
        """Return the grade, if it was stored."""
        row = self._database.execute("SELECT grade FROM answers WHERE key = ?", [key]).fetchone()
        return None if row is None else int(row[0])

    def put(self, key: str, grade: int) -> None:
        """Store a grade; it survives a kill from here on."""
        self._database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", [key, grade])


def key_of(*parts: object) -> str:
    """Return one key of all that an answer depends on."""
    text = json.dumps(parts, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
