"""Secrets are not taken as flags: whoever may list processes would read them."""

import argparse
from collections.abc import Iterator
from urllib.parse import urlsplit

from pydantic import BaseModel

from worker.errors import StartError
from worker.settings import SECRETS_DIR_VARIABLE, Settings

# An address, with a password in it or without.
URL = "redis.url"


def refuse_secret_flags(parsed: argparse.Namespace) -> None:
    """Raise StartError where a flag holds a secret; the message does not."""
    given = {name: value for name, value in vars(parsed).items() if isinstance(value, str)}
    for name in secret_names(Settings):
        section, field = name.split(".")
        as_flag = given.get(name)
        if (as_flag and _is_secret(name, as_flag)) or f'"{field}"' in given.get(section, ""):
            variable = "RERANKER_" + name.replace(".", "__").upper()
            raise StartError(
                f"--{name.replace('_', '-')}: a secret is not taken as a flag, which others can "
                f"see in the list of processes: set {variable}, or a file of that name in the "
                f"folder {SECRETS_DIR_VARIABLE}"
            )


def secret_names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all settings that are secret."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from secret_names(kind, f"{prefix}{name}.")
        elif "SecretStr" in str(kind):
            yield f"{prefix}{name}"


def _is_secret(name: str, value: str) -> bool:
    if name != URL:
        return True
    try:
        return urlsplit(value).password is not None
    except ValueError:
        return "@" in value
