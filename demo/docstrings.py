"""The docstrings of one source file, by parsing it: nothing of it is ever run."""

import ast
import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path

_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def docstrings_of(source: Path, module: str) -> Iterator[tuple[str, str]]:
    """Give (qualified name, cleaned docstring) of a file's module, classes, functions and methods.

    Names with a leading underscore are left out, except `__init__`. A file that this Python can't
    parse gives nothing.
    """
    try:
        with warnings.catch_warnings():  # of invalid escapes in other people's code
            warnings.simplefilter("ignore")
            tree = ast.parse(source.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    yield from _walk(tree, module)


def _walk(node: _Documented, name: str) -> Iterator[tuple[str, str]]:
    text = ast.get_docstring(node, clean=False)
    if text and (cleaned := inspect.cleandoc(text).strip()):
        yield name, cleaned
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return  # what is defined inside a function can't be reached by anyone
    for child in _children(node.body):
        if not child.name.startswith("_") or child.name == "__init__":
            yield from _walk(child, f"{name}.{child.name}")


def _children(
    body: list[ast.stmt],
) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Give the definitions of a body, those behind an `if` or `try` included."""
    for statement in body:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield statement
        elif isinstance(statement, ast.If):
            yield from _children([*statement.body, *statement.orelse])
        elif isinstance(statement, ast.Try):
            handlers = [line for handler in statement.handlers for line in handler.body]
            yield from _children([*statement.body, *handlers, *statement.orelse])
