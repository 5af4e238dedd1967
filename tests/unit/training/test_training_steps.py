"""Twenty steps on a tiny random BERT: the loss falls, and the adapter survives its file."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from training.config import LoraRecipe, TrainRecipe
from training.evaluate import DevSet, sample, score_pairs
from training.groups import Group
from training.model import add_lora, load_adapter, save_adapter
from training.seeds import half_of
from training.train import train_steps

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "blue", "fox", "whale", "sea"]
GROUPS = [
    Group("toy", "red fox", ["fox red", "whale sea"], [0.9, 0.1], [1, 0]),
    Group("toy", "blue fox", ["fox blue sea", "whale"], [0.8, 0.2], [1, 0]),
]
RECIPE = TrainRecipe(
    steps=20,
    queries_per_batch=2,
    candidates_per_query=2,
    max_length=16,
    learning_rate=0.01,
    warmup_steps=1,
    bf16=False,
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("\n".join(WORDS))
    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=1,
        initializer_range=0.2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    BertForSequenceClassification(config).save_pretrained(tmp_path / "base")
    BertTokenizerFast(str(vocab)).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def fresh(base: Path) -> PeftModel:
    torch.manual_seed(5)
    model = BertForSequenceClassification.from_pretrained(base)
    return add_lora(model, LoraRecipe(rank=2, alpha=4))


def losses(base: Path, model: PeftModel) -> list[float]:
    return list(train_steps(model, BertTokenizerFast.from_pretrained(base), GROUPS, RECIPE))


def test_twenty_steps_lower_the_loss(base: Path) -> None:
    found = losses(base, fresh(base))
    assert sum(found[-3:]) < 0.7 * sum(found[:3])


def test_a_seed_fixes_the_training(base: Path) -> None:
    assert losses(base, fresh(base)) == losses(base, fresh(base))


def test_a_saved_adapter_scores_as_before(base: Path, tmp_path: Path) -> None:
    model = fresh(base)
    losses(base, model)
    tokenizer = BertTokenizerFast.from_pretrained(base)
    pairs = [("red fox", "fox red"), ("red fox", "whale sea"), ("blue whale", "fox")]
    before = score_pairs(model.eval(), tokenizer, pairs, 16)
    save_adapter(model, "base", tmp_path / "adapter")
    after = score_pairs(load_adapter(base, tmp_path / "adapter"), tokenizer, pairs, 16)
    # half precision keeps 11 bits
    assert after == pytest.approx(before, rel=5e-3, abs=5e-3)
    assert before[0] != before[1]


def test_of_a_half_only_its_queries_choose_a_step() -> None:
    names = [f"q{number}" for number in range(11)]
    dev = DevSet(
        "toy",
        dict.fromkeys(names, "fox"),
        {"a": "fox", "b": "sea"},
        {name: {"a": 0.2, "b": 0.9} for name in names},
        {name: {"a": 1} for name in names},
    )
    half = sample(dev, 26, 1, 13, half=True)
    assert sorted(half.queries) == sorted(half_of(names, second=False))
    assert len(half.queries) == 6
    assert not set(half.queries) & set(half_of(names, second=True))
    assert set(half.retrieved) == set(half.qrels) == set(half.queries)
    assert list(half.retrieved.values()) == [{"b": 0.9}] * 6
