"""Where secrets may come from, and where they may not."""

import argparse
import os
from pathlib import Path

import pytest

from worker.errors import StartError
from worker.flags import read_settings
from worker.secret_flags import secret_names
from worker.settings import MAX_SECRETS_BYTES, Settings

SECRET = "correct-horse-battery-staple"
NAMES = {"kafka.sasl_password", "kafka.ssl_password", "redis.url", "qdrant.api_key"}


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("RERANKER_"):
            monkeypatch.delenv(name)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RERANKER_SECRETS_DIR", str(tmp_path))
    return tmp_path


def read(*flags: str) -> Settings:
    return read_settings(argparse.ArgumentParser(), list(flags))


def refusal(*flags: str) -> str:
    with pytest.raises(StartError) as caught:
        read(*flags)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_all_secrets_are_known() -> None:
    assert set(secret_names(Settings)) == NAMES


def test_files_are_named_like_variables(folder: Path) -> None:
    (folder / "RERANKER_REDIS__URL").write_text(f"redis://:{SECRET}@cache:6379/0\n")
    (folder / "reranker_qdrant__api_key").write_text(SECRET)
    (folder / "RERANKER_KAFKA__SASL_PASSWORD").write_text(SECRET)
    settings = read()
    assert settings.redis.url.get_secret_value() == f"redis://:{SECRET}@cache:6379/0"
    assert settings.qdrant.api_key is not None
    assert settings.qdrant.api_key.get_secret_value() == SECRET
    assert settings.kafka.sasl_password is not None
    assert SECRET not in f"{settings!r} {settings.model_dump()} {settings.model_dump_json()}"


def test_files_as_kubernetes_mounts_them(folder: Path) -> None:
    """Links to files in a folder that is itself a link, beside the others of the Secret."""
    data = folder / "..2026_01_31"
    data.mkdir()
    (data / "RERANKER_REDIS__URL").write_text("redis://here")
    (data / "password").write_text("of somebody else")
    (folder / "..data").symlink_to(data.name)
    for name in ("RERANKER_REDIS__URL", "password"):
        (folder / name).symlink_to(f"..data/{name}")
    assert read().redis.url.get_secret_value() == "redis://here"


def test_the_environment_wins_over_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "RERANKER_REDIS__URL").write_text("redis://file")
    monkeypatch.setenv("RERANKER_REDIS__URL", "redis://environment")
    assert read().redis.url.get_secret_value() == "redis://environment"


def test_a_folder_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANKER_SECRETS_DIR", "nowhere")
    assert "RERANKER_SECRETS_DIR: there is no folder nowhere" in refusal()


def test_a_folder_of_something_else_is_refused(folder: Path) -> None:
    (folder / "RERANKER_REDIS__URL").write_bytes(bytes(MAX_SECRETS_BYTES + 1))
    assert "settings can't be read" in refusal()


def test_what_is_no_text_is_refused(folder: Path) -> None:
    (folder / "RERANKER_REDIS__URL").write_bytes(b"\xff\xfe")
    assert "settings can't be read" in refusal()


@pytest.mark.parametrize(
    "flags",
    [
        ["--kafka.sasl-password", SECRET],
        [f"--kafka.sasl-password={SECRET}"],
        [f"--kafka.sasl-pass={SECRET}"],
        ["--kafka.ssl-password", SECRET],
        ["--qdrant.api-key", SECRET],
        ["--redis.url", f"redis://user:{SECRET}@cache:6379/0"],
        ["--redis.url", f"redis://:{SECRET}@cache:6379/0"],
        ["--kafka", f'{{"sasl_password": "{SECRET}"}}'],
        ["--redis", f'{{"url": "redis://:{SECRET}@cache"}}'],
    ],
)
def test_a_secret_is_no_flag(flags: list[str]) -> None:
    said = refusal(*flags)
    assert "list of processes" in said
    assert "RERANKER_" in said


@pytest.mark.parametrize("url", ["memory://", "redis://cache:6379/0", "unix:///run/redis.sock"])
def test_an_address_without_a_password_may_be_a_flag(url: str) -> None:
    assert read("--redis.url", url).redis.url.get_secret_value() == url
