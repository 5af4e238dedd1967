"""What reads bundles, events and caches runs nothing of what it reads."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

FOLDERS = ("engine", "schemas", "worker")
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "torch"}
CALLS = {"eval", "exec", "compile", "__import__", "register_custom_ops_library"}
OPTIONS = {"allow_pickle", "trust_remote_code"}
FILES = sorted(file for folder in FOLDERS for file in (REPOSITORY / folder).rglob("*.py"))


def dangers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            yield str(node.module)
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "id", None) or getattr(node.func, "attr", None)
            # `re.compile` and the like are methods; the builtin is a plain name.
            if name in CALLS and (isinstance(node.func, ast.Name) or name.startswith("register")):
                yield str(name)
            for option in node.keywords:
                constant = isinstance(option.value, ast.Constant) and not option.value.value
                if option.arg in OPTIONS and not constant:
                    yield str(option.arg)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_nothing_that_runs_what_it_reads(file: Path) -> None:
    # The engine's own kernels; `session_options` takes no path.
    allowed = ["register_custom_ops_library"] if file == REPOSITORY / "engine/graph.py" else []
    assert list(dangers(ast.parse(file.read_text(encoding="utf-8")))) == allowed


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "numpy.load(file, allow_pickle=True)",
        "eval(text)",
        "options.register_custom_ops_library(file)",
    ],
)
def test_each_of_them_would_be_found(code: str) -> None:
    assert len(list(dangers(ast.parse(code)))) == 1


def test_what_is_refused_by_name_is_no_danger() -> None:
    assert list(dangers(ast.parse("numpy.load(file, allow_pickle=False); re.compile(text)"))) == []
