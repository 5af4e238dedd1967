"""Settings: what is refused, what wins, and that secrets stay secret."""

import argparse
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from worker.errors import EXIT_CONFIG, StartError
from worker.flags import read_settings
from worker.settings import KafkaSettings, Settings

SECRET = "correct-horse-battery-staple"


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("RERANKER_"):
            monkeypatch.delenv(name)


def read(*flags: str) -> Settings:
    return read_settings(argparse.ArgumentParser(), list(flags))


def refusal(*flags: str) -> str:
    with pytest.raises(StartError) as caught:
        read(*flags)
    assert caught.value.exit_code == EXIT_CONFIG
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_defaults_stand() -> None:
    settings = read()
    assert settings.kafka.isolation_level == "read_committed"
    assert settings.kafka.auto_offset_reset == "earliest"
    assert settings.kafka.enable_auto_commit is False
    assert settings.redis.url.get_secret_value() == "memory://"
    assert settings.model_bundle is None


@pytest.mark.parametrize(
    ("longer", "shorter"),
    [
        ("delivery_timeout_ms", "request_timeout_ms"),
        ("transaction_timeout_ms", "delivery_timeout_ms"),
        ("max_poll_interval_ms", "transaction_timeout_ms"),
        ("max_poll_interval_ms", "session_timeout_ms"),
    ],
)
@pytest.mark.parametrize("more", [0, 1])
def test_time_outs_are_checked_against_one_another(longer: str, shorter: str, more: int) -> None:
    value = getattr(KafkaSettings(), longer) + more
    with pytest.raises(ValidationError, match=f"{longer} must be above {shorter}"):
        KafkaSettings(**{shorter: value})
    said = refusal(f"--kafka.{shorter.replace('_', '-')}", str(value))
    assert longer in said
    assert shorter in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AUTO_OFFSET_RESET", "latest"),
        ("AUTO_OFFSET_RESET", "none"),
        ("ISOLATION_LEVEL", "read_uncommitted"),
        ("ENABLE_AUTO_COMMIT", "true"),
        ("ENABLE_AUTO_COMMIT", "1"),
        ("SESSION_TIMEOUT_MS", "0"),
        ("REQUEST_TIMEOUT_MS", "soon"),
        ("SECURITY_PROTOCOL", "TLS"),
        ("COMPRESSION", "rar"),
    ],
)
def test_what_would_lose_events_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"RERANKER_KAFKA__{name}", value)
    assert f"RERANKER_KAFKA__{name}" in refusal()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RERANKER_BATCH__MAX_EVENTS", "0"),
        ("RERANKER_BATCH__MAX_PAIRS", "-1"),
        ("RERANKER_BATCH__PREFETCH", "-1"),
        ("RERANKER_REDIS__TTL_S", "0"),
        ("RERANKER_HTTP__PORT", "65536"),
        ("RERANKER_LOG__LEVEL", "loud"),
        ("RERANKER_FEEDBACK__TEXT", "some"),
        ("RERANKER_DRAIN_TIMEOUT_MS", "0"),
        ("RERANKER_LIMITS__EVENT_BYTES", "many"),
    ],
)
def test_a_bad_value_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert variable in refusal()


def test_a_misspelt_variable_of_a_section_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANKER_KAFKA__GROUPID", "x")
    assert "RERANKER_KAFKA__GROUPID" in refusal()


def test_a_misspelt_flag_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read("--kafka.groupid", "x")
    assert caught.value.code != 0
    assert "groupid" in capsys.readouterr().err


def settings_file(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    file = folder / "settings.toml"
    file.write_text(text)
    monkeypatch.setenv("RERANKER_SETTINGS_FILE", str(file))


def test_flags_win_over_environment_over_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings_file(
        tmp_path,
        monkeypatch,
        'model_bundle = "file"\n[kafka]\ngroup_id = "file"\nbootstrap_servers = "file:1"\n'
        "[batch]\nmax_events = 7\n[kafka.topics]\nqueries = 'q.file'\nresults = 'r.file'\n",
    )
    monkeypatch.setenv("RERANKER_KAFKA__GROUP_ID", "environment")
    monkeypatch.setenv("RERANKER_KAFKA__BOOTSTRAP_SERVERS", "environment:1")
    monkeypatch.setenv("RERANKER_KAFKA__TOPICS__QUERIES", "q.environment")
    settings = read("--kafka.group-id", "flag")
    assert settings.kafka.group_id == "flag"
    assert settings.kafka.bootstrap_servers == "environment:1"
    assert settings.kafka.topics.queries == "q.environment"
    assert settings.kafka.topics.results == "r.file"
    assert settings.kafka.topics.feedback == "rerank.feedback"
    assert settings.batch.max_events == 7
    assert settings.model_bundle == Path("file")


@pytest.mark.parametrize("text", ["[kafka", "kafka = 1", "[kafka]\nunknown = 1", "unknown = 1"])
def test_a_bad_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    settings_file(tmp_path, monkeypatch, text)
    refusal()


def test_a_file_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Going on with the defaults would connect to who knows what."""
    monkeypatch.setenv("RERANKER_SETTINGS_FILE", "nowhere/settings.toml")
    assert "nowhere/settings.toml" in refusal()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        read().drain_timeout_ms = 1  # type: ignore[misc]
    with pytest.raises(ValidationError):
        read().kafka.group_id = "x"  # type: ignore[misc]


SASL = {
    "RERANKER_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
    "RERANKER_KAFKA__SASL_MECHANISM": "PLAIN",
    "RERANKER_KAFKA__SASL_USERNAME": "user",
    "RERANKER_KAFKA__SASL_PASSWORD": SECRET,
    "RERANKER_KAFKA__SSL_PASSWORD": SECRET,
    "RERANKER_REDIS__URL": f"redis://user:{SECRET}@localhost:6379/0",
}


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SASL.items():
        monkeypatch.setenv(name, value)
    settings = read()
    for shown in (repr(settings), str(settings), settings.model_dump_json(), str(settings.redis)):
        assert SECRET not in shown
    assert settings.kafka.sasl_password is not None
    assert settings.kafka.sasl_password.get_secret_value() == SECRET


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RERANKER_KAFKA__SASL_MECHANISM", SECRET),
        ("RERANKER_KAFKA__SASL_MECHANISM", "OAUTHBEARER"),
        ("RERANKER_KAFKA__REQUEST_TIMEOUT_MS", "99999"),
        ("RERANKER_KAFKA__SECURITY_PROTOCOL", "PLAINTEXT"),
        ("RERANKER_REDIS__TTL_S", "-1"),
        ("RERANKER_REDIS__UNKNOWN", "x"),
        ("RERANKER_KAFKA", SECRET),
        ("RERANKER_REDIS", f'{{"url": "{SECRET}"'),
        ("RERANKER_REDIS", f'{{"url": ["{SECRET}"]}}'),
    ],
)
def test_a_refusal_never_holds_a_secret(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    for each, secret in SASL.items():
        if not each.startswith(f"{name}__"):
            monkeypatch.setenv(each, secret)
    monkeypatch.setenv(name, value)
    assert SECRET not in refusal()


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ({"RERANKER_KAFKA__SASL_PASSWORD": None}, "sasl_password"),
        ({"RERANKER_KAFKA__SASL_USERNAME": None}, "sasl_username"),
        ({"RERANKER_KAFKA__SASL_MECHANISM": None}, "sasl_mechanism"),
        ({"RERANKER_KAFKA__SECURITY_PROTOCOL": "SSL"}, "sasl_mechanism"),
        ({"RERANKER_KAFKA__SASL_MECHANISM": "OAUTHBEARER"}, "sasl_oauth_token_file"),
    ],
)
def test_half_a_credential_is_refused(
    monkeypatch: pytest.MonkeyPatch, missing: dict[str, Any], said: str
) -> None:
    for name, value in {**SASL, **missing}.items():
        if value is not None:
            monkeypatch.setenv(name, value)
    assert said in refusal()
