"""What is wrong at start is said in one line, with an exit code that is not 0."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from pydantic import SecretStr

from engine.bundles import sha256_of
from tests.fakes.processes import assert_one_line, run_worker
from tests.services.process import free_ports
from tests.unit.tiny_retrieval import write_counting_model
from worker.build import open_bundles
from worker.errors import EXIT_CONFIG, StartError
from worker.settings import RedisSettings, Settings
from worker.store import open_store

START_LIMIT_S = 30.0


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model bundle of its own, to be damaged."""
    return write_counting_model(tmp_path, "file")


def test_no_bundle() -> None:
    assert_one_line(run_worker(), EXIT_CONFIG, "RERANKER_MODEL_BUNDLE", "python -m export model")


def test_a_bundle_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"RERANKER_MODEL_BUNDLE.*nowhere.*manifest\.json"):
        open_bundles(Settings(model_bundle=tmp_path / "nowhere"))


def flip_a_byte(folder: Path) -> None:
    file = folder / "model.onnx"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)


def grow(folder: Path) -> None:
    with (folder / "tokenizer.json").open("ab") as file:
        file.write(b" ")


def remove(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def wrong_kind(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "kind": "index"}))


def no_json(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip_a_byte, "model.onnx"),
        (grow, "tokenizer.json"),
        (remove, "tokenizer.json"),
        (wrong_kind, "kind"),
        (no_json, "not JSON"),
    ],
)
def test_an_altered_bundle(model: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(model)
    with pytest.raises(StartError) as caught:
        open_bundles(Settings(model_bundle=model))
    assert "RERANKER_MODEL_BUNDLE" in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_altered_bundle_ends_the_worker(model: Path) -> None:
    flip_a_byte(model)
    done = run_worker("--model-bundle", str(model))
    assert_one_line(done, EXIT_CONFIG, "RERANKER_MODEL_BUNDLE", "model.onnx")


def score_nan(folder: Path) -> None:
    """Put the root of a negative number where the score was, and seal the bundle again."""
    file = folder / "model.onnx"
    model = onnx.load(file)
    model.graph.node[-1].output[0] = "counts"
    model.graph.node.extend(
        [
            onnx.helper.make_node("Log", ["counts"], ["logs"]),
            onnx.helper.make_node("Sub", ["logs", "logs"], ["logits"]),
        ]
    )
    onnx.save(model, file)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["model.onnx"] |= {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["MODEL_BUNDLE", "OVERLOAD__MODEL_BUNDLE"])
def test_a_model_that_scores_nan_ends_the_worker(model: Path, tmp_path: Path, name: str) -> None:
    """Its digest is right, and yet it can answer nothing: said at start, not on each event."""
    other = write_counting_model(tmp_path / "other", "line")
    score_nan(model)
    environment = {"RERANKER_MODEL_BUNDLE": str(other), f"RERANKER_{name}": str(model)}
    done = run_worker("rank", environment=environment)
    assert_one_line(done, EXIT_CONFIG, str(model), "no finite numbers")


def test_an_index_bundle_that_is_a_model_bundle(model: Path) -> None:
    with pytest.raises(StartError, match="RERANKER_INDEX_BUNDLE"):
        open_bundles(Settings(model_bundle=model, index_bundle=model))


@pytest.mark.slow
def test_kafka_that_cannot_be_reached(model: Path) -> None:
    """Said within half a minute, beside what this machine takes to start Python and a model."""
    (port,) = free_ports(1)
    _, at_once_s = started_with(model, port, "--kafka.start-timeout-ms", "2")
    done, took_s = started_with(model, port)
    assert_one_line(done, EXIT_CONFIG, "RERANKER_KAFKA__BOOTSTRAP_SERVERS", f"127.0.0.1:{port}")
    assert took_s - at_once_s < START_LIMIT_S


def started_with(
    model: Path, port: int, *flags: str
) -> tuple["subprocess.CompletedProcess[str]", float]:
    """A worker that looks for a broker at this port, and after how many seconds it had ended."""
    began_s = time.monotonic()
    servers = {"RERANKER_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{port}"}
    done = run_worker("--model-bundle", str(model), *flags, environment=servers)
    return done, time.monotonic() - began_s


@pytest.mark.parametrize("servers", ["broker.invalid:9092", ""])
def test_addresses_that_are_none(model: Path, servers: str) -> None:
    done = run_worker(
        "--model-bundle",
        str(model),
        "--kafka.start-timeout-ms",
        "500",
        environment={"RERANKER_KAFKA__BOOTSTRAP_SERVERS": servers},
    )
    assert_one_line(done, EXIT_CONFIG, "RERANKER_KAFKA__BOOTSTRAP_SERVERS")


def test_a_cache_of_no_known_kind_does_not_show_its_password() -> None:
    settings = RedisSettings(url=SecretStr("http://user:battery-staple@cache"))
    with pytest.raises(StartError) as caught:
        open_store(settings, lambda: None)
    assert "RERANKER_REDIS__URL" in str(caught.value)
    assert "staple" not in str(caught.value)


def test_a_setting_that_is_wrong() -> None:
    done = run_worker(environment={"RERANKER_KAFKA__AUTO_OFFSET_RESET": "latest"})
    assert_one_line(done, EXIT_CONFIG, "RERANKER_KAFKA__AUTO_OFFSET_RESET", "earliest")


def test_help_names_every_setting() -> None:
    done = run_worker("--help")
    assert done.returncode == 0
    for flag in ("--model-bundle", "--kafka.group-id", "--redis.url", "--batch.max-pairs"):
        assert flag in done.stdout
