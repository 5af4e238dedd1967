"""The plan's settings to a Kafka client, and one line of advice where it can't connect."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kafka
from kafka.errors import KafkaError
from kafka.net.sasl.oauth import AbstractTokenProvider

from training.errors import KafkaReadError
from training.plan_data import KafkaPlan

# The demo's broker speaks this version and can't be asked for it, and the checksums of records
# that were written in a transaction don't hold there.
_EMBEDDED = {"api_version": (2, 3), "check_crcs": False}


def connect(plan: KafkaPlan, limits: Mapping[str, int]) -> Any:
    """Return a consumer that is a member of no group; raises KafkaReadError."""
    options: dict[str, Any] = {
        **limits,
        "bootstrap_servers": plan.bootstrap_servers.split(","),
        "client_id": "kafka-reranker-training",
        "group_id": plan.group_id,
        "isolation_level": "read_committed",
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "allow_auto_create_topics": False,
        "bootstrap_timeout_ms": int(plan.timeout_s * 1000),
        "security_protocol": plan.security_protocol,
        **_security(plan),
        **(_EMBEDDED if plan.embedded else {}),
    }
    # What each try to connect says would bury the one line that says what to do.
    logger = logging.getLogger("kafka")
    logger.addHandler(logging.NullHandler())
    logger.propagate = logger.isEnabledFor(logging.DEBUG)
    try:
        return kafka.KafkaConsumer(**options)
    except (KafkaError, ValueError, OSError) as error:
        raise KafkaReadError(advice(plan, str(error))) from None


def _security(plan: KafkaPlan) -> dict[str, Any]:
    options: dict[str, Any] = {
        name: str(value)
        for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile")
        if (value := getattr(plan, name)) is not None
    }
    if plan.sasl_mechanism is None:
        return options
    options["sasl_mechanism"] = plan.sasl_mechanism
    if plan.sasl_oauth_token_file is not None:
        options["sasl_oauth_token_provider"] = _token_from(plan.sasl_oauth_token_file)
    else:
        options["sasl_plain_username"] = _secret(plan.sasl_username_env)
        options["sasl_plain_password"] = _secret(plan.sasl_password_env)
    return options


def _secret(variable: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise KafkaReadError(f"collect.kafka.sasl_mechanism needs the variable {variable}: set it")
    return value


class _FileTokenProvider(AbstractTokenProvider):  # type: ignore[misc]
    """Reads the bearer token for each connection, so that a renewed one is used."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def token(self) -> str:
        """Return the token."""
        return self._path.read_text(encoding="utf-8").strip()


def _token_from(file: Path) -> _FileTokenProvider:
    """Return a provider; raises KafkaReadError where there is no token now."""
    provider = _FileTokenProvider(file)
    try:
        found = provider.token()
    except (OSError, UnicodeDecodeError) as error:
        raise KafkaReadError(f"collect.kafka.sasl_oauth_token_file {file}: {error}") from None
    if not found:
        raise KafkaReadError(f"collect.kafka.sasl_oauth_token_file {file} is empty")
    return provider


def advice(plan: KafkaPlan, why: str) -> str:
    """Return the one line for a broker that can't be used."""
    return (
        f"kafka at {plan.bootstrap_servers} (collect.kafka.bootstrap_servers): {why}. Check the "
        "address, that the broker runs, and security_protocol and credentials"
    )
