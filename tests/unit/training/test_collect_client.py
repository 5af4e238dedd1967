"""What a Kafka client is given by the plan."""

from pathlib import Path
from typing import Any

import kafka
import pytest
from kafka.net.sasl.oauth import AbstractTokenProvider

from training.collect.client import connect
from training.errors import KafkaReadError
from training.plan_data import KafkaPlan


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options of the consumer that is made last."""
    options: dict[str, Any] = {}

    def make(**some: Any) -> object:
        options.clear()
        options.update(some)
        return object()

    monkeypatch.setattr(kafka, "KafkaConsumer", make)
    return options


def with_token(file: Path) -> KafkaPlan:
    return KafkaPlan(
        security_protocol="SASL_SSL", sasl_mechanism="OAUTHBEARER", sasl_oauth_token_file=file
    )


def test_a_renewed_token_is_read_for_the_next_connection(
    given: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    connect(with_token(file), {})
    provider = given["sasl_oauth_token_provider"]

    assert isinstance(provider, AbstractTokenProvider)
    assert provider.token() == "first"
    file.write_text("second")
    assert provider.token() == "second"
    assert "sasl_plain_password" not in given


def test_without_a_token_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(KafkaReadError, match=r"sasl_oauth_token_file .*No such file"):
        connect(with_token(tmp_path / "token"), {})
    (tmp_path / "token").write_text("\n")
    with pytest.raises(KafkaReadError, match="is empty"):
        connect(with_token(tmp_path / "token"), {})


def test_user_and_password_are_those_of_the_named_variables(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = KafkaPlan(sasl_mechanism="PLAIN", sasl_username_env="WHO", sasl_password_env="WORD")
    monkeypatch.setenv("WHO", "me")
    with pytest.raises(KafkaReadError, match="needs the variable WORD"):
        connect(plan, {})
    monkeypatch.setenv("WORD", "secret")
    connect(plan, {})

    assert (given["sasl_plain_username"], given["sasl_plain_password"]) == ("me", "secret")


def test_only_the_embedded_broker_is_told_its_version(given: dict[str, Any]) -> None:
    connect(KafkaPlan(), {"max_poll_records": 7})
    assert given["max_poll_records"] == 7
    assert not {"api_version", "check_crcs"} & set(given)

    connect(KafkaPlan(embedded=True), {})
    assert given["api_version"] == (2, 3)
    assert given["check_crcs"] is False
