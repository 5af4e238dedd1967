"""Passages from the docstrings of installed Python packages.

A docstring answers its own summary line, and a question made from its function's name. Only
packages under permissive licences are read (see `PERMISSIVE_PACKAGES`).
"""

import ast
import re
import sysconfig
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from random import Random

from training.console import console
from training.passages import Passage

# Package -> licence, as their own metadata say.
PERMISSIVE_PACKAGES = {
    "stdlib": "PSF-2.0",
    "aiohttp": "Apache-2.0",
    "attr": "MIT",
    "click": "BSD-3-Clause",
    "datasets": "Apache-2.0",
    "faiss": "MIT",
    "fsspec": "BSD-3-Clause",
    "huggingface_hub": "Apache-2.0",
    "jinja2": "BSD-3-Clause",
    "joblib": "BSD-3-Clause",
    "matplotlib": "PSF-2.0 style",
    "mpmath": "BSD-3-Clause",
    "multidict": "Apache-2.0",
    "networkx": "BSD-3-Clause",
    "numba": "BSD-2-Clause",
    "numpy": "BSD-3-Clause",
    "pandas": "BSD-3-Clause",
    "pydantic": "MIT",
    "redis": "MIT",
    "requests": "Apache-2.0",
    "rich": "MIT",
    "scipy": "BSD-3-Clause",
    "seaborn": "BSD-3-Clause",
    "sentence_transformers": "Apache-2.0",
    "sklearn": "BSD-3-Clause",
    "sympy": "BSD-3-Clause",
    "torch": "BSD-3-Clause",
    "transformers": "Apache-2.0",
}

_MAX_WORDS = 110
_MIN_WORDS = 12
_SKIP_FOLDERS = {"test", "tests", "site-packages", "dist-packages", "idlelib", "lib2to3"}
_MARKUP = re.compile(r":[a-z:]+:`~?([^`]*)`|`{1,2}([^`]*)`{1,2}|\*\*([^*]+)\*\*")
_UNDERLINE = re.compile(r"^\s*[-=~^]{3,}\s*$", re.MULTILINE)
_IMPERATIVE = re.compile(
    r"^(Returns?|Gets?|Computes?|Creates?|Reads?|Writes?|Checks?|Converts?|"
    r"Makes?|Sets?|Finds?|Removes?|Adds?|Parses?|Loads?|Applies|Apply|"
    r"Calculates?|Generates?|Tests?|Constructs?|Draws?|Plots?|Opens?)\b"
)


def _root(package: str) -> Path | None:
    if package == "stdlib":
        return Path(sysconfig.get_paths()["stdlib"])
    spec = find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def _definitions(path: Path) -> Iterator[tuple[str, str]]:
    """(name, docstring) of a module's public classes, methods and functions, in file order."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # other people's escapes
            tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError, ValueError, RecursionError):
        return
    stack: list[tuple[str, ast.AST]] = [
        (path.stem if path.stem != "__init__" else path.parent.name, tree)
    ]
    while stack:
        prefix, node = stack.pop(0)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{prefix}.{child.name}"
                doc = ast.get_docstring(child)
                if doc and not child.name.startswith("_"):
                    yield name, doc
                if isinstance(child, ast.ClassDef):
                    stack.append((name, child))


def plain(doc: str) -> str:
    """A docstring as one line of prose: no markup, no examples, bounded length."""
    doc = doc.split(">>>", maxsplit=1)[0]
    doc = _UNDERLINE.sub("", doc)
    doc = _MARKUP.sub(lambda m: next(g for g in m.groups() if g is not None), doc)
    return " ".join(" ".join(doc.split()).split(" ")[:_MAX_WORDS])


def _words(name: str) -> str:
    """`read_csv` and `ReadCsv` -> `read csv`."""
    last = name.rpartition(".")[2]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", last).replace("_", " ").strip().lower()


def _question(summary: str, rng: Random) -> str:
    """A summary line as a question, when it starts with a verb; otherwise as it is."""
    body = summary.rstrip(". ")
    if _IMPERATIVE.match(body):
        verb, _, rest = body.partition(" ")
        verb = re.sub(r"(?<=[a-rt-z])s$", "", verb.lower())
        verb = {"return": rng.choice(["get", "return", "find"]), "applie": "apply"}.get(verb, verb)
        return rng.choice(
            [
                "How do I {} {}?",
                "how to {} {}",
                "How can I {} {} in Python?",
                "which function can {} {}",
            ]
        ).format(verb, rest)
    return body


def _split(text: str) -> tuple[str, str]:
    head, _, body = text.partition(". ")
    return head, body


def _passage(name: str, doc: str, rng: Random) -> Passage | None:
    text = plain(doc)
    summary, body = _split(text)
    n_words = len(text.split())
    if n_words < _MIN_WORDS or len(summary.split()) < 4 or len(summary.split()) > 30:
        return None
    words = _words(name)
    queries = [_question(summary, rng)]
    if len(words.split()) > 1:
        queries.append(rng.choice(["how to {}", "How do I {}?", "{} python", "{}"]).format(words))
    else:
        queries.append(f"What does {name} do?")
    # The summary must not stand in the answer word for word each time, or the pair is trivial.
    keep_summary = len(body.split()) < _MIN_WORDS or rng.random() < 0.3
    titled = rng.random() < 0.5
    answer = text if keep_summary else body
    return Passage("docstrings", f"{name} {answer}" if titled else answer, tuple(queries))


def docstring_passages(rng: Random, packages: tuple[str, ...] | None = None) -> list[Passage]:
    """Passages of every listed package that is installed, in a fixed order."""
    found: list[Passage] = []
    seen: set[str] = set()
    for package in packages or tuple(PERMISSIVE_PACKAGES):
        root = _root(package)
        if root is None:
            console.print(f"docstrings: {package} is not installed, left out")
            continue
        for path in sorted(root.rglob("*.py")):
            if _SKIP_FOLDERS & set(path.relative_to(root).parts):
                continue
            for name, doc in _definitions(path):
                passage = _passage(name, doc, rng)
                if passage and passage.text[-200:] not in seen:
                    seen.add(passage.text[-200:])
                    found.append(passage)
    return found
