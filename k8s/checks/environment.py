"""Environment variables of the manifests against the worker's settings."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pydantic import BaseModel, ValidationError

from k8s.checks.render import Manifests
from worker.settings import SETTINGS_FILE_VARIABLE, Settings

PREFIX = "RERANKER_"
# What stands in for values that only the cluster knows.
SECRET = "redis://secret"  # noqa: S105 - no secret
CLUSTER = "1"


class RefusedError(Exception):
    """The worker would refuse these variables."""


def known_variables(model: type[BaseModel] = Settings, prefix: str = PREFIX) -> set[str]:
    """Return the variable of every setting."""
    names: set[str] = set()
    for name, field in model.model_fields.items():
        variable = prefix + name.upper()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names |= known_variables(field.annotation, f"{variable}__")
        else:
            names.add(variable)
    return names | ({SETTINGS_FILE_VARIABLE} if prefix == PREFIX else set())


def variables_of(manifests: Manifests) -> dict[str, str]:
    """Return the variables of the worker's container; `env` wins over the ConfigMap."""
    found = dict(manifests.values)
    for variable in manifests.worker_container.get("env", []):
        source = variable.get("valueFrom", {})
        standing_in = SECRET if "secretKeyRef" in source else CLUSTER
        found[variable["name"]] = variable.get("value", standing_in)
    return {name: value for name, value in found.items() if name.startswith(PREFIX)}


def unknown_variables(manifests: Manifests) -> Iterator[str]:
    """Yield a line for each variable that is no setting."""
    known = known_variables()
    for name in sorted(variables_of(manifests)):
        if name not in known:
            yield f"{name} is no setting of the worker"


def refused_variables(manifests: Manifests) -> Iterator[str]:
    """Yield a line when the worker would not start with them."""
    try:
        settings_of(manifests)
    except RefusedError as error:
        yield str(error)


def settings_of(manifests: Manifests) -> Settings:
    """Return the settings as the worker would read them; raises RefusedError."""
    with _environment(variables_of(manifests)):
        try:
            return Settings()
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = ".".join(str(part) for part in first["loc"])
            raise RefusedError(f"setting {name}: {first['msg']}") from None


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    for name in before:
        del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
        os.environ.update(before)
