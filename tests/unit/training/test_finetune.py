import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from safetensors import safe_open

from engine.bundles import open_model
from engine.score import Scorer
from export.model_steps import Request, export_model
from tests.unit.export.family_checkpoints import write_family
from tests.unit.export.tiny_cross_encoder import write_cross_encoder
from tests.unit.training.lessons import lesson_rows, write_lessons
from training.errors import InputError, TrainingError
from training.finetune import start as starts
from training.finetune.encoder import EngineCrossEncoder
from training.finetune.errors import DiskFullError, LabelsError, is_disk_full
from training.finetune.labels import read_labels
from training.finetune.step import train
from training.finetune.trainer import Trainer, last_whole_checkpoint
from training.plan_model import TrainPlan


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cross_encoder(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_lessons(tmp_path / "run")


def plan_of(base: Path, **fields: Any) -> TrainPlan:
    return TrainPlan(
        **{"base": str(base), "epochs": 4, "evaluate_every": 14, "learning_rate": 5e-3} | fields
    )


@pytest.mark.parametrize(
    ("loss", "method"),
    [
        ("listwise", "lora"),
        ("listwise", "full"),
        ("pairwise", "lora"),
        ("margin", "lora"),
        ("pointwise", "lora"),
    ],
)
def test_each_loss_teaches(base: Path, run: Path, loss: str, method: str) -> None:
    found = train(plan_of(base, loss=loss, method=method), run)

    assert found["dev"]["after"] > found["dev"]["before"] + 0.2
    assert (run / "model" / "adapter").is_dir() == (method == "lora")


# What DeBERTa and ModernBERT do when they are imported.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("family", ["distilbert", "bert", "roberta", "deberta-v2", "modernbert"])
def test_every_family_gets_an_adapter(tmp_path: Path, run: Path, family: str) -> None:
    write = write_cross_encoder if family == "distilbert" else write_family
    base = write(tmp_path / family, family)

    found = train(plan_of(base, max_steps=3, max_tokens=64), run)

    assert found["steps"] == {"trained": 3, "best": 3}  # fewer than between two looks
    starts.load(str(run / "model"), None)  # every weight is there
    with safe_open(run / "model" / "adapter" / "adapter_model.safetensors", "pt") as file:
        layers = {name.split(".")[-3] for name in file.keys() if ".lora_" in name}  # noqa: SIM118
    assert layers == set(starts.TARGETS[family])


@pytest.mark.parametrize("loss", ["distill-mse", "distill-margin"])
def test_a_smaller_student_comes_nearer_to_its_teacher(
    base: Path, tmp_path: Path, loss: str
) -> None:
    run = write_lessons(tmp_path / "run")
    teacher_run = write_lessons(tmp_path / "teacher")
    train(plan_of(base), teacher_run)
    teacher = str(teacher_run / "model")
    fields = {"loss": loss, "teacher": teacher, "keep_layers": [1], "method": "full"}

    found = train(plan_of(base, **fields), run)

    assert starts.load(str(run / "model"), None).network.config.num_hidden_layers == 1
    assert found["dev"]["after"] > found["dev"]["before"]


def test_torch_and_the_worker_score_alike(base: Path, run: Path, tmp_path: Path) -> None:
    plan = plan_of(base, max_tokens=48)
    train(plan, run)
    start = starts.load(str(run / "model"), None)
    encoder = starts.pair_encoder(start, plan.max_tokens, tmp_path / "tokenizer.json")
    trained = EngineCrossEncoder.open(run / "model", encoder)
    out = tmp_path / "bundle"
    export_model(Request("fp32", out, model=str(run / "model"), max_tokens=plan.max_tokens))
    pairs = [("read a topic", "write the file " * length) for length in (1, 2, 5, 40)]
    pairs += [("close", "[SEP] Grüße 什么"), ("broker", "")]

    scorer = Scorer.open(open_model(out))
    served = [pair.logit for pair in scorer.score(pairs)]
    scorer.close()

    assert trained.logits(pairs) == pytest.approx(served, abs=1e-4)


def test_a_second_run_does_nothing(base: Path, run: Path) -> None:
    plan = plan_of(base, max_steps=14)
    first = train(plan, run)
    weights = (run / "model" / "model.safetensors").stat().st_mtime_ns

    assert train(plan, run) == first
    assert (run / "model" / "model.safetensors").stat().st_mtime_ns == weights
    assert not (run / "model.work").exists()


def test_the_same_seed_gives_the_same_weights(base: Path, tmp_path: Path) -> None:
    plan = plan_of(base, max_steps=14)
    digests = {
        train(each, write_lessons(tmp_path / name))["model"]
        for name, each in {"one": plan, "two": plan}.items()
    }
    other = train(plan.model_copy(update={"seed": 14}), write_lessons(tmp_path / "three"))

    assert len(digests) == 1
    assert other["model"] not in digests


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 0.0}, "no document with a label above 0"),
        ({"label": 1.0}, "in no query of the split train is one document better"),
    ],
)
def test_labels_that_teach_nothing_are_refused(
    base: Path, tmp_path: Path, change: dict[str, float], message: str
) -> None:
    rows = [replace(row, label=change["label"]) for row in lesson_rows(20)]
    run = write_lessons(tmp_path / "run", rows)

    with pytest.raises(LabelsError, match=message):
        train(plan_of(base), run)

    assert not (run / "model").exists()


def test_without_dev_queries_nothing_says_when_to_stop(base: Path, tmp_path: Path) -> None:
    rows = [row for row in lesson_rows(20) if row.split != "dev"]

    with pytest.raises(LabelsError, match="give dev a larger share"):
        train(plan_of(base), write_lessons(tmp_path / "run", rows))


@pytest.mark.parametrize("content", [None, b"no parquet"])
def test_missing_and_broken_labels_say_what_to_do(
    base: Path, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "labels").mkdir()
        (tmp_path / "labels" / "groups.parquet").write_bytes(content)

    with pytest.raises((LabelsError, InputError), match=r"run `python|not Parquet"):
        train(plan_of(base), tmp_path)


def test_a_full_disk_leaves_what_was_whole(
    base: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(base, max_steps=28)
    save = Trainer._save

    def full(self: Trainer, output_dir: str | None = None, state_dict: Any = None) -> None:
        if self.state.global_step > 14:
            half = Path(output_dir or "")
            half.mkdir()
            (half / "trained.safetensors").write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(self, output_dir, state_dict)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save", full)
        with pytest.raises(DiskFullError, match="goes on from checkpoint-14"):
            train(plan, run)
    assert not (run / "model").exists()
    assert [path.name for path in (run / "model.work").glob("checkpoint-*")] == ["checkpoint-14"]

    resumed = train(plan, run)
    straight = train(plan, write_lessons(run.parent / "straight"))
    assert resumed["model"] == straight["model"]


def test_half_written_checkpoints_are_removed(tmp_path: Path) -> None:
    half = tmp_path / "checkpoint-20"
    half.mkdir()
    (half / "trained.safetensors").write_bytes(b"x")
    (half / "trainer_state.json").write_text(json.dumps({}))

    assert last_whole_checkpoint(tmp_path) is None
    assert not half.exists()


def test_other_labels_begin_anew(base: Path, run: Path) -> None:
    (run / "model.work" / "checkpoint-7").mkdir(parents=True)
    (run / "model.work" / "inputs.json").write_text("{}")

    found = train(plan_of(base, max_steps=14), run)

    assert found["steps"]["trained"] == 14


def test_a_layer_that_is_not_there_cannot_be_kept(base: Path, run: Path) -> None:
    with pytest.raises(TrainingError, match="layers 0 to 1"):
        train(plan_of(base, keep_layers=[0, 2]), run)


def test_queries_are_lists_in_the_retrievers_order(run: Path) -> None:
    splits = read_labels(run / "labels" / "groups.parquet")

    assert [len(splits[name]) for name in ("train", "dev", "test")] == [56, 8, 16]
    ranks = [document.retrieval_rank for document in splits["train"][0].documents]
    assert ranks == list(range(1, 9))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device"), True),
        (OSError(13, "Permission denied"), False),
        (
            RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 320 vs 192"),
            True,
        ),
        (RuntimeError("basic_ios::clear: iostream error"), True),
        (ValueError("something else"), False),
    ],
)
def test_libraries_that_give_no_errno_are_understood(error: Exception, expected: bool) -> None:
    outer = RuntimeError("saving failed")
    outer.__cause__ = error

    assert is_disk_full(outer) == expected
