"""Corpus and bundles, made by the commands that a user would run, and kept for the next time.

Beside each thing lies a `.key` file with the hash of all that it depends on; where that has
changed, the thing is made again.
"""

import hashlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

import export
from demo.corpus import Places, environment_key, write_corpus
from demo.errors import DemoError
from engine.bundles import open_index, open_model, sha256_of
from engine.errors import BundleError
from export.checkpoint import DEFAULT_ADAPTER
from export.tools import tool_versions

PRECISION = "int8"

# What a bundle depends on. Not all our code: an index takes a minute or two.
CODE_ROOT = Path(export.__path__[0]).parent
MODEL_CODE = ("export/**/*.py", "engine/pairs.py", "schemas/manifests.py")
INDEX_CODE = (
    *("engine/batches.py", "engine/documents.py", "engine/embed.py", "engine/index.py"),
    *("export/checkpoint.py", "export/corpus.py", "export/embedder.py", "export/index.py"),
    *("export/pair_template.py", "schemas/manifests.py"),
)


@dataclass(frozen=True)
class Made:
    """What the worker serves, and the corpus that snippets are read from."""

    corpus: Path
    model: Path
    index: Path


def make_all(folder: Path, console: Console) -> Made:
    """Make what is missing or out of date below `folder`; raises DemoError."""
    made = Made(folder / "corpus.jsonl", folder / "model", folder / "index")
    tools = repr(sorted(tool_versions().items()))

    key = environment_key()
    if not (_is_fresh(made.corpus, key) and made.corpus.is_file()):
        console.print("[bold]Corpus[/]: docstrings of Python and of the installed packages")
        count = write_corpus(made.corpus, Places.of_this_python())
        console.print(f"{made.corpus}: {count:,} passages", highlight=False)
        _stamp(made.corpus, key)

    key = _key(tools, MODEL_CODE, *DEFAULT_ADAPTER.iterdir())
    if not (_is_fresh(made.model, key) and _opens(open_model, made.model)):
        _export(console, "Model bundle", "model", "--precision", PRECISION, out=made.model)
        _stamp(made.model, key)

    key = _key(tools, INDEX_CODE, made.corpus)
    if not (_is_fresh(made.index, key) and _opens(open_index, made.index)):
        _export(console, "Index bundle", "index", "--corpus", str(made.corpus), out=made.index)
        _stamp(made.index, key)
    return made


def _export(console: Console, title: str, *words: str, out: Path) -> None:
    _key_file(out).unlink(missing_ok=True)
    arguments = ["-m", "export", *words, "--out", str(out)]
    shown = shlex.join(["python", *arguments])
    console.print(f"[bold]{title}[/]: {shown}", highlight=False, soft_wrap=True)
    if out.is_dir():
        shutil.rmtree(out)  # its key did not fit
    ended = subprocess.run([sys.executable, *arguments], check=False)
    if ended.returncode != 0:
        raise DemoError(f"`{shown}` ended with exit code {ended.returncode}: see above")


def _key(tools: str, code: Sequence[str], *inputs: Path) -> str:
    """Return a hash of the versions of tools, of our code, and of what goes in."""
    files = [path for pattern in code for path in CODE_ROOT.glob(pattern)]
    lines = (f"{path.name} {sha256_of(path)}" for path in sorted([*files, *inputs]))
    return hashlib.sha256("\n".join([tools, *lines]).encode()).hexdigest()


def _key_file(thing: Path) -> Path:
    return thing.with_name(thing.name + ".key")


def _is_fresh(thing: Path, key: str) -> bool:
    file = _key_file(thing)
    return file.is_file() and file.read_text() == key


def _stamp(thing: Path, key: str) -> None:
    _key_file(thing).write_text(key)


def _opens(open_bundle: Callable[[Path], object], folder: Path) -> bool:
    try:
        open_bundle(folder)
    except BundleError:
        return False
    return True
