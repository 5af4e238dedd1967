"""Settings of a command line: flags before the environment, the environment before files."""

import argparse
from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_settings import CliSettingsSource, SettingsError

from worker.errors import StartError
from worker.secret_flags import refuse_secret_flags
from worker.settings import Settings


def read_settings(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Settings:
    """Return the settings of flags, environment and file; raises StartError in one line."""
    source = CliSettingsSource[argparse.ArgumentParser](
        Settings, root_parser=parser, cli_hide_none_type=True, cli_kebab_case=True
    )
    parsed = parser.parse_args(arguments)
    refuse_secret_flags(parsed)
    try:
        return Settings(_cli_settings_source=source(parsed_args=parsed))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        variable = "RERANKER_" + name.replace(".", "__").upper()
        raise StartError(f"setting {name} ({variable}): {first['msg']}") from None
    except (SettingsError, OSError, ValueError) as error:
        raise StartError(f"settings can't be read: {error}") from None
