import builtins
import errno
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
import pytest

from engine.bundles import MANIFEST, open_index, open_model
from engine.errors import BundleError, RemoteError
from engine.remote import (
    Folder,
    default_cache,
    fetch_files,
    is_address,
    open_cached,
    open_remote,
    shown,
)
from tests.unit.export.test_seal import write
from worker.build import _open
from worker.errors import StartError
from worker.settings import Settings


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A model bundle of two files in fsspec's memory file system."""
    write(tmp_path / "source", "weights")
    files = fsspec.filesystem("memory")
    root = f"/{uuid.uuid4().hex}"
    files.put(str(tmp_path / "source"), root, recursive=True)
    yield f"memory:/{root}"
    files.rm(root, recursive=True)


def root_of(address: str) -> str:
    return address.removeprefix("memory:/")


def rewrite(address: str, change: Callable[[dict[str, Any]], object]) -> None:
    path = f"{root_of(address)}/{MANIFEST}"
    files = fsspec.filesystem("memory")
    manifest = json.loads(files.cat_file(path))
    change(manifest)
    files.pipe_file(path, json.dumps(manifest).encode())


def test_it_is_cached_by_digest_and_the_second_start_reads_only_the_manifest(
    address: str, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"

    first = open_cached(address, cache, open_model, "model")
    fsspec.filesystem("memory").rm_file(f"{root_of(address)}/model.onnx")
    second = open_cached(address, cache, open_model, "model")

    assert first == second
    assert first.path == cache / first.digest.removeprefix("sha256:")
    assert first.file("model.onnx").read_text() == "weights"
    assert [path.name for path in cache.iterdir()] == [first.path.name]


def test_an_altered_cache_is_fetched_again(address: str, tmp_path: Path) -> None:
    first = open_cached(address, tmp_path / "cache", open_model, "model")
    first.file("model.onnx").write_text("Weights")

    second = open_cached(address, tmp_path / "cache", open_model, "model")

    assert second.file("model.onnx").read_text() == "weights"
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_another_process_that_was_first_is_no_error(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"

    def fetch_after_another(*arguments: Any) -> None:
        monkeypatch.setattr("engine.remote.fetch_files", fetch_files)
        open_cached(address, cache, open_model, "model")
        fetch_files(*arguments)

    monkeypatch.setattr("engine.remote.fetch_files", fetch_after_another)

    bundle = open_cached(address, cache, open_model, "model")

    assert bundle.file("model.onnx").read_text() == "weights"
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("text", ["Weights", "weight", "weights and more", ""])
def test_an_altered_file_leaves_nothing(address: str, tmp_path: Path, text: str) -> None:
    fsspec.filesystem("memory").pipe_file(f"{root_of(address)}/model.onnx", text.encode())

    with pytest.raises(RemoteError, match=r"'model.onnx' is not the file that the manifest names"):
        open_cached(address, tmp_path / "cache", open_model, "model")

    assert list((tmp_path / "cache").iterdir()) == []


def test_a_missing_file(address: str, tmp_path: Path) -> None:
    fsspec.filesystem("memory").rm_file(f"{root_of(address)}/model.onnx")

    with pytest.raises(RemoteError, match=r"lacks the file 'model.onnx'"):
        open_cached(address, tmp_path / "cache", open_model, "model")

    assert list((tmp_path / "cache").iterdir()) == []


def test_a_manifest_that_names_a_file_outside(address: str) -> None:
    rewrite(address, lambda it: it["files"].update({"../up": it["files"]["model.onnx"]}))

    with pytest.raises(RemoteError, match=r"manifest.json: files\.\.\./up"):
        open_remote(address)


@pytest.mark.parametrize("text", [b"", b"{", b"[NaN]", b"\xff", b"[" * 100_000])
def test_a_manifest_that_is_no_json(address: str, text: bytes) -> None:
    fsspec.filesystem("memory").pipe_file(f"{root_of(address)}/{MANIFEST}", text)

    with pytest.raises(RemoteError, match=r"manifest.json is not JSON"):
        open_remote(address)


def test_nothing_there() -> None:
    with pytest.raises(RemoteError, match="is not a bundle: it has no manifest"):
        open_remote("memory://nowhere")


def test_the_wrong_kind_is_refused_before_the_download(address: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is a model bundle: name one of kind index"):
        open_cached(address, tmp_path / "cache", open_index, "index")

    assert not (tmp_path / "cache").exists()


def test_a_protocol_that_does_not_exist() -> None:
    with pytest.raises(RemoteError, match="there is no protocol nosuch"):
        open_remote("nosuch://bucket/model")


def without(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    real = builtins.__import__

    def refuse(module: str, *arguments: Any, **named: Any) -> Any:
        if module.partition(".")[0] == name:
            raise ImportError(f"no {module}")
        return real(module, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "fsspec")

    with pytest.raises(RemoteError, match=r"needs the extra \[remote\]"):
        open_remote("memory://bucket/model")


def test_without_the_package_of_a_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_address: str) -> None:
        raise ImportError("Install s3fs")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)

    with pytest.raises(RemoteError, match=r"pip install 'kafka-reranker\[s3\]'"):
        open_remote("s3://bucket/model")


class Broken:
    """A file system on which everything fails, with a secret in the text."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def open(self, *_: Any) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError("key=SECRET"), "access was refused"),
        (OSError(errno.ECONNREFUSED, "https://SECRET"), "Connection refused"),
        (RuntimeError("SECRET"), "RuntimeError"),
    ],
)
def test_no_credential_in_a_message(
    monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    address = "memory://user:SECRET@bucket/model?token=SECRET#SECRET"
    folder = Folder(Broken(error), "bucket", shown(address))
    monkeypatch.setattr("engine.remote.open_folder", lambda _: folder)

    with pytest.raises(RemoteError, match=line) as caught:
        open_remote(address)

    assert "SECRET" not in str(caught.value)
    assert str(caught.value).startswith("memory://bucket/model")


def test_a_full_disk_leaves_nothing(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)

    with pytest.raises(BundleError, match=r"can't write to .*: No space left on device"):
        open_cached(address, tmp_path / "cache", open_model, "model")

    assert list((tmp_path / "cache").iterdir()) == []


def test_an_interruption_leaves_nothing(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("engine.remote._read", interrupt)

    with pytest.raises(KeyboardInterrupt):
        open_cached(address, tmp_path / "cache", open_model, "model")

    assert list((tmp_path / "cache").iterdir()) == []


def test_what_is_an_address() -> None:
    assert is_address("s3://bucket/model")
    assert not is_address("build/model")
    assert not is_address("/build/a:b")


def test_the_default_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert default_cache() == tmp_path / "kafka-reranker" / "bundles"


def test_the_worker_opens_an_address(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RERANKER_MODEL_BUNDLE", address)
    monkeypatch.setenv("RERANKER_BUNDLE_CACHE", str(tmp_path / "cache"))
    settings = Settings()
    assert settings.model_bundle == address

    bundle = _open(open_model, "model_bundle", settings.model_bundle, settings)

    assert bundle.path.parent == tmp_path / "cache"


def test_the_worker_says_which_setting_is_wrong(address: str, tmp_path: Path) -> None:
    settings = Settings(index_bundle=address, bundle_cache=tmp_path / "cache")

    with pytest.raises(StartError, match=r"RERANKER_INDEX_BUNDLE\): memory://.* is a model bundle"):
        _open(open_index, "index_bundle", address, settings)


def test_a_plain_path_needs_no_fsspec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "source", "weights")
    settings = Settings(model_bundle=str(tmp_path / "source"))
    without(monkeypatch, "fsspec")
    assert settings.model_bundle == tmp_path / "source"

    assert _open(open_model, "model_bundle", tmp_path / "source", settings).path.is_dir()
