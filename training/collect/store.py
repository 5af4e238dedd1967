"""Where events are kept: Parquet files by kind and day, and a small database that knows them.

The database holds a hash of each event's id and how far each partition was read. A flush is one
transaction of it, so a kill at any point leaves each event once:

1. Ids that are new are inserted, in a transaction that is not yet committed.
2. The rows that are new are written beside their final names, and brought to the disk.
3. The names and the new offsets are inserted, and the transaction is committed.
4. The files get their names. (After a kill before this, `open` does it.)
"""

import errno
import fcntl
import hashlib
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from training.collect.events import SCHEMAS, Row
from training.errors import InputError, TrainingError
from training.run_folder import BESIDE, RunFolder, sync

DATABASE = "state.sqlite"
_TABLES = """
CREATE TABLE IF NOT EXISTS seen (id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS offsets (topic TEXT, partition INTEGER, next INTEGER,
                                    PRIMARY KEY (topic, partition));
CREATE TABLE IF NOT EXISTS pending (path TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS files (digest TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, count INTEGER);
"""


@dataclass(frozen=True)
class Progress:
    """What a flush has read beside its rows: the next offsets, and a file that is finished."""

    topic: str = ""
    offsets: Mapping[int, int] | None = None
    file_digest: str | None = None


@dataclass(frozen=True)
class EventStore:
    """The events of one run. Only one process at a time has it open; see `opened`."""

    run: RunFolder
    database: sqlite3.Connection

    def offsets(self, topic: str) -> dict[int, int]:
        """Return partition → the next offset to read; a partition that was never read is absent."""
        query = "SELECT partition, next FROM offsets WHERE topic = ?"
        return dict(self.database.execute(query, [topic]))

    def has_file(self, digest: str) -> bool:
        """Return whether a file of judgements was taken in before."""
        query = "SELECT 1 FROM files WHERE digest = ?"
        return self.database.execute(query, [digest]).fetchone() is not None

    def counts(self) -> dict[str, int]:
        """Return how many events of each kind are kept, and how many came again."""
        found = dict(self.database.execute("SELECT name, count FROM counts"))
        return {name: found.get(name, 0) for name in (*SCHEMAS, "duplicates")}

    def write(self, rows: Sequence[Row], progress: Progress) -> None:
        """Keep the rows that are new, and how far was read: both or neither.

        Raises TrainingError where the disk is full.
        """
        try:
            with self.database:  # commits at its end, or takes everything back
                self.database.execute("BEGIN IMMEDIATE")
                new = [row for row in rows if self._is_new(row)]
                paths = self._write_beside(new)
                self._note(new, len(rows) - len(new), paths, progress)
        except (OSError, sqlite3.OperationalError) as error:
            if getattr(error, "errno", None) == errno.ENOSPC or "disk is full" in str(error):
                raise TrainingError(
                    f"no space left in {self.run.path}: free some and run collect again; "
                    "it goes on after the last events that were kept"
                ) from None
            raise
        self.finish()

    def finish(self) -> None:
        """Give the files of the last flush their names."""
        for (name,) in self.database.execute("SELECT path FROM pending").fetchall():
            path = self.run.path / name
            beside = path.with_name(path.name + BESIDE)
            if beside.exists():
                beside.replace(path)
            elif not path.exists():
                raise InputError(f"{path} is missing: collect into a fresh --run folder")
            sync(path.parent)
        with self.database:
            self.database.execute("DELETE FROM pending")

    def _is_new(self, row: Row) -> bool:
        key = hashlib.blake2b(row.event_id.encode("utf-8", "surrogatepass"), digest_size=16)
        query = "INSERT OR IGNORE INTO seen VALUES (?)"
        return self.database.execute(query, [key.digest()]).rowcount == 1

    def _write_beside(self, rows: Sequence[Row]) -> list[Path]:
        by_place: dict[Path, list[Row]] = defaultdict(list)
        number = sum(self.counts()[kind] for kind in SCHEMAS)  # grows with every file
        for row in rows:
            folder = self.run.events / f"kind={row.kind}" / f"date={row.day}"
            by_place[folder / f"part-{number:010d}.parquet"].append(row)
        for path, some in by_place.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_name(path.name + BESIDE)
            columns = [row.columns for row in some]
            table = pa.Table.from_pylist(columns, schema=SCHEMAS[some[0].kind])
            pq.write_table(table, beside, compression="zstd")
            sync(beside)
        return list(by_place)

    def _note(
        self, new: Sequence[Row], again: int, paths: Iterable[Path], progress: Progress
    ) -> None:
        counts = Counter({"duplicates": again}) + Counter(row.kind for row in new)
        self.database.executemany(
            "INSERT INTO counts VALUES (?, ?) "
            "ON CONFLICT (name) DO UPDATE SET count = count + excluded.count",
            counts.items(),
        )
        self.database.executemany(
            "INSERT INTO pending VALUES (?)",
            [(str(path.relative_to(self.run.path)),) for path in paths],
        )
        self.database.executemany(
            "INSERT OR REPLACE INTO offsets VALUES (?, ?, ?)",
            [(progress.topic, *pair) for pair in (progress.offsets or {}).items()],
        )
        if progress.file_digest is not None:
            self.database.execute("INSERT OR IGNORE INTO files VALUES (?)", [progress.file_digest])


@contextmanager
def opened(run: RunFolder) -> Iterator[EventStore]:
    """Open the events of a run, and mend what a kill left; raises TrainingError where in use."""
    folder = run.step("collect")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(f"another collect is at work on {run.path}: wait for it") from None
        connection = sqlite3.connect(folder / DATABASE, isolation_level=None)
        with closing(connection) as database:
            database.execute("PRAGMA synchronous = FULL")
            database.executescript(_TABLES)
            store = EventStore(run, database)
            store.finish()
            for left in run.events.rglob(f"*{BESIDE}"):
                left.unlink()
            yield store


def event_files(run: RunFolder, kind: str) -> list[Path]:
    """Return the Parquet files of a kind, in a fixed order."""
    return sorted((run.events / f"kind={kind}").rglob("*.parquet"))
