"""Whether a JSON Schema may take the place of an older one, within a major version.

Both directions are one question, asked the other way round: does the one schema cover the other?

- `consumed` (others write, we read): all that the old schema accepted, the new one accepts.
- `produced` (we write, others read): all that the new schema allows, the old one allowed.

In both, a field never goes away, and a new optional field is fine: readers ignore what they do not
know. This rule is why no general subset checker is used here. To such a checker, giving a new field
a type is a narrowing, because the open object took anything there before.

Keywords that the models do not use are compared as a whole: any difference counts as a break.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Direction = Literal["consumed", "produced"]
Schema = Mapping[str, Any]

_LOWER_BOUNDS = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER_BOUNDS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_UNIONS = ("anyOf", "oneOf")
# Words for people, and those that have their own comparison.
_ELSEWHERE = frozenset(
    {
        *_LOWER_BOUNDS,
        *_UPPER_BOUNDS,
        *_UNIONS,
        *("$schema", "$id", "$comment", "$defs", "$ref", "title", "description", "examples"),
        *("type", "enum", "const", "default", "deprecated"),
        *("properties", "required", "items", "additionalProperties", "patternProperties"),
    }
)


def breaking_changes(old: Schema, new: Schema, direction: Direction) -> list[str]:
    """Return what breaks somebody when `new` takes the place of `old`; one line for each break."""
    return list(_Comparison(old, new, direction).schemas("$", old, new, frozenset()))


@dataclass(frozen=True)
class _Comparison:
    """Walks both schemas side by side; paths begin with `$` for the whole document."""

    old_root: Schema
    new_root: Schema
    direction: Direction

    def schemas(
        self, path: str, old: Schema, new: Schema, seen: frozenset[tuple[str, str]]
    ) -> Iterator[str]:
        pair = (old.get("$ref", ""), new.get("$ref", ""))
        if all(pair):
            if pair in seen:
                return
            seen |= {pair}
        olds, news = _alternatives(self.old_root, old), _alternatives(self.new_root, new)
        if self.direction == "consumed":
            for one in olds:
                alike = _alike(one, news)
                yield from min((self._pair(path, one, other, seen) for other in alike), key=len)
        else:
            for one in news:
                alike = _alike(one, olds)
                yield from min((self._pair(path, other, one, seen) for other in alike), key=len)

    def _pair(
        self, path: str, old: Schema, new: Schema, seen: frozenset[tuple[str, str]]
    ) -> list[str]:
        """Compare two schemas without unions."""
        covered, cover = (old, new) if self.direction == "consumed" else (new, old)
        problems = [*_types(path, covered, cover)]
        if problems:
            return problems
        problems += [*_values(path, covered, cover), *_bounds(path, covered, cover)]
        problems += _other_keywords(path, covered, cover)
        problems += self._required(path, old, new)
        problems += self._fields(path, old, new, seen)
        problems += self._patterns(path, old, new, seen)
        for keyword in ("items", "additionalProperties"):
            problems += self._inner(path, keyword, old, new, seen)
        return problems

    def _required(self, path: str, old: Schema, new: Schema) -> Iterator[str]:
        before, after = set(old.get("required", ())), set(new.get("required", ()))
        if self.direction == "consumed":
            for name in sorted(after - before):
                yield f"{path}.{name}: is required now"
        else:
            for name in sorted(before - after):
                yield f"{path}.{name}: is not always there any more"

    def _fields(
        self, path: str, old: Schema, new: Schema, seen: frozenset[tuple[str, str]]
    ) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        for name, was in before.items():
            where = f"{path}.{name}"
            if name not in after:
                yield f"{where}: was removed"
                continue
            yield from self.schemas(where, was, after[name], seen)
            # Of what we write, nobody sees a default; of what we read, it is a promise.
            if self.direction == "consumed" and _default(was) != _default(after[name]):
                yield f"{where}: has another default"

    def _patterns(
        self, path: str, old: Schema, new: Schema, seen: frozenset[tuple[str, str]]
    ) -> Iterator[str]:
        before, after = old.get("patternProperties", {}), new.get("patternProperties", {})
        if before.keys() != after.keys():
            yield f"{path}: names of fields follow other patterns"
            return
        for pattern, was in before.items():
            yield from self.schemas(f"{path}[{pattern}]", was, after[pattern], seen)

    def _inner(
        self, path: str, keyword: str, old: Schema, new: Schema, seen: frozenset[tuple[str, str]]
    ) -> Iterator[str]:
        """Compare schemas of entries; no schema means that anything goes, False that nothing."""
        if keyword not in old and keyword not in new:
            return
        before, after = old.get(keyword, True), new.get(keyword, True)
        where = f"{path}[{keyword}]"
        covered, cover = (before, after) if self.direction == "consumed" else (after, before)
        if cover is True or covered is False:
            return
        if cover is False:
            yield f"{where}: is closed on one side"
            return
        yield from self.schemas(where, _opened(before), _opened(after), seen)


def _alternatives(root: Schema, schema: Schema) -> list[Schema]:
    """Return the members of a union, without references; a plain schema is the only member."""
    schema = _resolved(root, schema)
    for keyword in _UNIONS:
        if keyword in schema:
            return [each for one in schema[keyword] for each in _alternatives(root, one)]
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": one} for one in schema["type"]]
    return [schema]


def _resolved(root: Schema, schema: Schema) -> Schema:
    while "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        schema = target
    return schema


def _alike(one: Schema, others: list[Schema]) -> list[Schema]:
    """Return the members of a union that have one's type, or all where none has."""
    return [other for other in others if other.get("type") == one.get("type")] or others


def _types(path: str, covered: Schema, cover: Schema) -> Iterator[str]:
    wanted, given = cover.get("type"), covered.get("type")
    if wanted is None or wanted == given or (wanted, given) == ("number", "integer"):
        return
    yield f"{path}: type {given or 'any'} is not covered by {wanted}"


def _values(path: str, covered: Schema, cover: Schema) -> Iterator[str]:
    wanted, given = _enumerated(cover), _enumerated(covered)
    if wanted is None:
        return
    if given is None:
        yield f"{path}: any value is not covered by {wanted}"
        return
    for value in given:
        if value not in wanted:
            yield f"{path}: value {value!r} is not covered"


def _enumerated(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    return schema.get("enum")


def _bounds(path: str, covered: Schema, cover: Schema) -> Iterator[str]:
    for keywords, sign in ((_LOWER_BOUNDS, 1), (_UPPER_BOUNDS, -1)):
        for keyword in keywords:
            wanted, given = cover.get(keyword), covered.get(keyword)
            if wanted is not None and (given is None or sign * given < sign * wanted):
                yield f"{path}: {keyword} {given} is not covered by {wanted}"


def _other_keywords(path: str, covered: Schema, cover: Schema) -> Iterator[str]:
    for keyword, wanted in cover.items():
        if keyword not in _ELSEWHERE and covered.get(keyword) != wanted:
            yield f"{path}: {keyword} {covered.get(keyword)!r} is not covered by {wanted!r}"


def _default(schema: Schema) -> Any:
    return schema.get("default")


def _opened(schema: Any) -> Schema:
    return {} if schema is True else schema
