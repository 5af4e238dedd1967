"""The documents of a segment of an index: ids and texts, memory-mapped and read one at a time.

Four raw files: the UTF-8 bytes of all ids and of all texts, each with little-endian uint64
offsets; entry i is `bytes[offsets[i]:offsets[i + 1]]`. Position i here is position i in the index.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from engine.bundles import Bundle
from engine.errors import BundleError
from schemas.manifests import IndexManifest

IDS = ("documents/ids.bin", "documents/ids.offsets")
TEXTS = ("documents/texts.bin", "documents/texts.offsets")
_OFFSET = np.dtype("<u8")


@dataclass(frozen=True)
class Strings:
    """A memory-mapped list of strings."""

    blob: NDArray[np.uint8]
    offsets: NDArray[np.uint64]

    @classmethod
    def load(cls, blob: Path, offsets: Path) -> "Strings":
        """Map both files; raises BundleError where they don't belong together."""
        strings = cls(_map(blob, np.dtype(np.uint8)), _map(offsets, _OFFSET))
        ends = strings.offsets
        if len(ends) == 0 or ends[0] != 0 or int(ends[-1]) != len(strings.blob):
            raise BundleError(f"{offsets} does not fit {blob}")
        if np.any(ends[1:] < ends[:-1]):
            raise BundleError(f"{offsets} does not ascend")
        return strings

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, position: int) -> str:
        if not 0 <= position < len(self):
            raise IndexError(f"no entry {position} among {len(self)}")
        start, end = int(self.offsets[position]), int(self.offsets[position + 1])
        return self.blob[start:end].tobytes().decode()


@dataclass(frozen=True)
class Documents:
    """The ids and texts of an index, by position."""

    ids: Strings
    texts: Strings

    @classmethod
    def open(cls, bundle: Bundle[IndexManifest], prefix: str, count: int) -> "Documents":
        """Map the `count` documents whose file names begin with `prefix`; raises BundleError."""
        ids, texts = (
            Strings.load(bundle.file(prefix + blob), bundle.file(prefix + offsets))
            for blob, offsets in (IDS, TEXTS)
        )
        if not len(ids) == len(texts) == count:
            raise BundleError(
                f"{bundle.path} has {len(ids)} ids and {len(texts)} texts, not {count}"
            )
        return cls(ids, texts)

    @classmethod
    def load(cls, folder: Path) -> "Documents":
        """Map what a DocumentsWriter wrote; raises BundleError."""
        ids, texts = (
            Strings.load(folder / blob, folder / offsets) for blob, offsets in (IDS, TEXTS)
        )
        return cls(ids, texts)

    def __len__(self) -> int:
        return len(self.ids)

    def id(self, position: int) -> str:
        """Return the id of the document at `position`; raises IndexError."""
        return self.ids[position]

    def text(self, position: int) -> str:
        """Return the text of the document at `position`; raises IndexError."""
        return self.texts[position]


class DocumentsWriter:
    """Writes documents to `folder` one after the other, and holds none in memory.

    A context manager: the files are complete when it is left.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open_files = ExitStack()

    def __enter__(self) -> "DocumentsWriter":
        self._ids = self._writer(*IDS)
        self._texts = self._writer(*TEXTS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open_files.close()

    def append(self, doc_id: str, text: str) -> None:
        """Add a document; raises UnicodeEncodeError where a string has a lone surrogate."""
        self._ids.append(doc_id)
        self._texts.append(text)

    def _writer(self, blob: str, offsets: str) -> "_StringsWriter":
        return _StringsWriter(self._open(blob), self._open(offsets))

    def _open(self, name: str) -> BinaryIO:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return self._open_files.enter_context(path.open("wb"))


class _StringsWriter:
    def __init__(self, blob: BinaryIO, offsets: BinaryIO) -> None:
        self._blob = blob
        self._offsets = offsets
        self._end = 0
        self._write_end()

    def append(self, text: str) -> None:
        self._end += self._blob.write(text.encode())
        self._write_end()

    def _write_end(self) -> None:
        self._offsets.write(self._end.to_bytes(_OFFSET.itemsize, "little"))


def _map(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    size = path.stat().st_size
    if size % dtype.itemsize:
        raise BundleError(f"{path} is {size} bytes long, which is no multiple of {dtype.itemsize}")
    if size == 0:  # the system maps no empty file
        return np.empty(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r")
