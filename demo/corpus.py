"""The demo's corpus: docstrings of this Python and of the packages installed beside it.

1. The built-in types and functions, which have no source to parse.
2. The whole standard library.
3. Installed packages, so many docstrings of each, until there are enough passages.

Long docstrings become several passages. The same environment gives the same corpus.
"""

import builtins
import hashlib
import inspect
import json
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import distributions
from itertools import chain, islice
from pathlib import Path
from platform import python_version

from demo.docstrings import docstrings_of
from export.bars import progress

# So many of this length are indexed in about a minute and a half on two cores.
PASSAGES = 10_100
PASSAGE_CHARS = 320
DOCSTRINGS_OF_A_PACKAGE = 400
# "Close it." says nothing without its code.
SHORTEST_CHARS = 20

# What a programmer has at hand comes before the rest of the alphabet.
FIRST_PACKAGES = ("numpy", "redis", "kafka", "pydantic", "rich", "transformers", "torch")
_SKIPPED = {
    "__pycache__", "_vendor", "conftest", "dist-packages", "ensurepip", "idlelib", "lib2to3",
    "site-packages", "test", "testing", "tests", "turtledemo",
}  # fmt: skip
# Modules that are documented in their pure twin.
_TWINS = {
    "_collections_abc": "collections.abc",
    "_pydatetime": "datetime",
    "_pydecimal": "decimal",
    "_pyio": "io",
}


@dataclass(frozen=True)
class Passage:
    """A line of BEIR's corpus.jsonl: `_id`, such as `pathlib.Path.read_text`, title and text."""

    doc_id: str
    title: str
    text: str


@dataclass(frozen=True)
class Places:
    """Where sources lie; by default those of the running interpreter."""

    library: Path
    packages: Path

    @classmethod
    def of_this_python(cls) -> "Places":
        """Return where the running interpreter has its library and its packages."""
        paths = sysconfig.get_paths()
        return cls(Path(paths["stdlib"]), Path(paths["purelib"]))


def environment_key() -> str:
    """Return what the corpus depends on: the versions of Python and of all packages, and this."""
    packages = sorted(f"{each.name}=={each.version}" for each in distributions())
    own = [Path(__file__), Path(inspect.getfile(docstrings_of))]
    parts = [python_version(), *packages, *(path.read_text() for path in own)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def write_corpus(out: Path, places: Places, limit: int = PASSAGES) -> int:
    """Write at most `limit` passages as `corpus.jsonl` and return how many there are."""
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_suffix(".part")
    count = 0
    with unfinished.open("w", encoding="utf-8") as file, progress("reading docstrings") as advance:
        for passage in islice(passages(places), limit):
            fields = asdict(passage)
            line = {"_id": fields.pop("doc_id"), **fields}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
            advance(1)
    unfinished.replace(out)
    return count


def read_texts(corpus: Path) -> dict[str, str]:
    """Return id → text of a corpus that `write_corpus` wrote."""
    with corpus.open(encoding="utf-8") as file:
        lines = (json.loads(line) for line in file)
        return {line["_id"]: line["text"] for line in lines}


def passages(places: Places) -> Iterator[Passage]:
    """Give all passages, best known first; no id and no whole docstring occurs twice."""
    docstrings: set[str] = set()
    names: set[str] = set()
    for name, docstring in chain.from_iterable(_sources(places)):
        if name in names or docstring in docstrings or len(docstring) < SHORTEST_CHARS:
            continue
        names.add(name)
        docstrings.add(docstring)
        yield from split(name, docstring)


def split(name: str, text: str, chars: int = PASSAGE_CHARS) -> Iterator[Passage]:
    """Cut a docstring between paragraphs, or lines where a paragraph alone is too long.

    The first passage has the name for its id, the second `name#2`. Only a line that is longer
    than `chars` makes a longer passage.
    """
    for number, part in enumerate(_parts(text, chars), start=1):
        yield Passage(name if number == 1 else f"{name}#{number}", name, part)


def _parts(text: str, chars: int) -> Iterator[str]:
    part = ""
    for block, gap in _blocks(text, chars):
        if part and len(part) + len(gap) + len(block) > chars:
            yield part
            part = block
        else:
            part = f"{part}{gap}{block}" if part else block
    if part:
        yield part


def _blocks(text: str, chars: int) -> Iterator[tuple[str, str]]:
    """Give the pieces that may not be cut, each with what stands between it and the one before."""
    for paragraph in text.split("\n\n"):
        if len(paragraph) <= chars:
            if paragraph.strip():
                yield paragraph.strip("\n"), "\n\n"
            continue
        for number, line in enumerate(paragraph.strip("\n").split("\n")):
            yield line, "\n" if number else "\n\n"


def _sources(places: Places) -> Iterator[Iterable[tuple[str, str]]]:
    yield _of_builtins()
    yield _below(places.library)
    if not places.packages.is_dir():
        return
    names = sorted({path.stem for path in places.packages.iterdir() if _is_source(path)})
    first = [name for name in FIRST_PACKAGES if name in names]
    for name in [*first, *(name for name in names if name not in first)]:
        yield islice(_of_package(places.packages, name), DOCSTRINGS_OF_A_PACKAGE)


def _of_builtins() -> Iterator[tuple[str, str]]:
    for name, value in sorted(vars(builtins).items()):
        if name.startswith("_") or not callable(value) or isinstance(value, type(builtins)):
            continue
        if text := inspect.getdoc(value):
            yield name, text
        if isinstance(value, type) and not issubclass(value, BaseException):
            for method, function in sorted(vars(value).items()):
                if not method.startswith("_") and (text := inspect.getdoc(function)):
                    yield f"{name}.{method}", text


def _of_package(root: Path, name: str) -> Iterator[tuple[str, str]]:
    if (root / name).is_dir():
        yield from _below(root / name, name)
    elif (file := root / f"{name}.py").is_file():
        yield from docstrings_of(file, name)


def _below(root: Path, prefix: str = "") -> Iterator[tuple[str, str]]:
    for path in sorted(root.rglob("*.py")):
        parts = list(path.relative_to(root).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        if _SKIPPED.intersection(parts) or any(part.startswith("test_") for part in parts):
            continue
        module = ".".join([prefix, *parts] if prefix else parts)
        module = _TWINS.get(module, module)
        if module and not any(part.startswith("_") for part in module.split(".")):
            yield from docstrings_of(path, module)


def _is_source(path: Path) -> bool:
    if path.stem.startswith("_") or path.stem in _SKIPPED:
        return False
    return path.suffix == ".py" or (path.is_dir() and path.suffix != ".dist-info")
