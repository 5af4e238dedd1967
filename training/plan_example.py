"""An example plan, made from the models' own fields and descriptions so that it can't drift."""

import textwrap
from collections.abc import Iterator
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

_WIDTH = 96


def model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the section that a field holds, alone, as `Section | None` or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := model_of(part))), None)


def example(model: type[BaseModel]) -> str:
    """Return YAML of a whole model: each setting with its default and what it means."""
    lines = list(_comment(model.__doc__ or "", ""))
    for name, field in model.model_fields.items():
        lines += ["", *_field(name, field, "")]
    return "\n".join(lines) + "\n"


def _field(name: str, field: FieldInfo, indent: str) -> Iterator[str]:
    section = model_of(field.annotation)
    if section is None or get_origin(field.annotation) is list:
        yield from _setting(name, field, indent)
        return
    yield from _comment(section.__doc__ or "", indent)
    yield from _comment(field.description or "", indent)
    optional = section is not field.annotation
    inner = [f"{indent}{name}:"]
    given = (field.examples or [{}])[0]
    for key, value in section.model_fields.items():
        inner += (
            [f"{indent}  {key}: {_value(given[key])}"]
            if key in given
            else _field(key, value, indent + "  ")
        )
    # A section that is off until somebody wants it is shown, but commented out.
    yield from ((f"# {line}" for line in inner) if optional else inner)


def _setting(name: str, field: FieldInfo, indent: str) -> Iterator[str]:
    allowed = _allowed(field)
    text = " ".join(part for part in (field.description, allowed and f"({allowed})") if part)
    yield from _comment(text, indent)
    default = field.get_default(call_default_factory=True)
    if field.examples:
        yield f"{indent}# {name}: {_value(field.examples[0])}"
    yield f"{indent}{name}: {_value(default)}"


def _allowed(field: FieldInfo) -> str:
    """Return the values that a field takes, as far as its type says."""
    choices = _choices(field.annotation)
    if choices:
        return "one of " + ", ".join(choices)
    signs = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt")}
    return ", ".join(
        f"{signs[type(bound)][0]} {getattr(bound, signs[type(bound)][1])}"
        for bound in _metadata(field)
        if type(bound) in signs
    )


def _metadata(field: FieldInfo) -> Iterator[Any]:
    yield from field.metadata
    for part in get_args(field.annotation):
        yield from getattr(part, "__metadata__", ())


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    if get_origin(annotation) in (Union, UnionType):
        return [choice for part in get_args(annotation) for choice in _choices(part)]
    return []


def _comment(text: str, indent: str) -> Iterator[str]:
    for line in textwrap.wrap(" ".join(text.split()), _WIDTH - len(indent), break_on_hyphens=False):
        yield f"{indent}# {line}"


def _value(value: Any) -> str:
    plain = value if isinstance(value, str | int | float | list | dict | None) else str(value)
    dumped: str = yaml.safe_dump(plain, default_flow_style=True, width=10_000, allow_unicode=True)
    return dumped.removesuffix("\n").removesuffix("\n...")
