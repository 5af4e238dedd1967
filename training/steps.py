"""The commands: each reads its inputs, builds the parts, runs one step and reports as JSON."""

import argparse
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from training.beir import load_collection
from training.config import Recipe, RecipeError, load_recipe
from training.console import console
from training.devcache import cached_devset
from training.evaluate import DevSet, compare, retrieve, sample
from training.groups import Group, read_groups, write_groups
from training.mine import Miner, draw
from training.model import (
    add_lora,
    continue_adapter,
    default_base,
    load_adapter,
    load_base,
    load_tokenizer,
)
from training.retriever import Embedder
from training.seeds import seeded
from training.sources import JUDGED_SOURCES, PASSAGE_SOURCES, MissingSourceError, SourcePaths
from training.train import Chooser, train

BASE_NAME = "sentence-transformers/all-MiniLM-L6-v2"


def _groups_of(name: str, recipe: Recipe, paths: SourcePaths, embedder: Embedder) -> list[Group]:
    data, rng = recipe.data, seeded(recipe.data.seed, name)
    amount = data.sources[name]
    miner = Miner(embedder.encode, data.lexical_weight, data.candidates)
    if name in JUDGED_SOURCES:
        return miner.mine_collection(load_collection(JUDGED_SOURCES[name]))[: amount.queries]
    passages = draw(PASSAGE_SOURCES[name](paths, rng), amount.queries, amount.pool, rng)
    if not passages:
        raise MissingSourceError(f"source {name!r} has no texts here: leave it out of the recipe")
    groups = miner.mine_passages(passages, amount.queries, rng)
    if len(groups) < amount.queries:
        console.print(f"{name}: {len(groups):,} queries of the {amount.queries:,} wanted")
    return groups


def _retrieved(name: str, base: Path, top_k: int, cache: Path) -> DevSet:
    def make() -> DevSet:
        return retrieve(load_collection(name), Embedder(base).encode, top_k)

    return cached_devset(f"{name}-{top_k}", cache, make)


def build_data(args: argparse.Namespace) -> dict[str, Any]:
    """Write groups.jsonl.gz; returns counts per source. Raises MissingSourceError, RecipeError."""
    recipe = load_recipe(args.config)
    names = args.sources or list(recipe.data.sources)
    known = {*PASSAGE_SOURCES, *JUDGED_SOURCES}
    if unknown := sorted({*names, *recipe.data.sources} - known):
        raise RecipeError(f"unknown sources {', '.join(unknown)}; there are {sorted(known)}")
    if absent := sorted(set(names) - set(recipe.data.sources)):
        raise RecipeError(f"the recipe's data.sources doesn't name {', '.join(absent)}")
    paths = SourcePaths(args.wordnet_dir, args.factbook_dir)
    # The teacher need not be exact to the last digit, and bfloat16 halves the waiting.
    embedder = Embedder(args.base or default_base(), bf16=True)
    groups = {n: _groups_of(n, recipe, paths, embedder) for n in names}
    args.out.mkdir(parents=True, exist_ok=True)
    write_groups((g for name in names for g in groups[name]), args.out / "groups.jsonl.gz")
    return {name: len(found) for name, found in groups.items()}


def train_adapter(args: argparse.Namespace) -> dict[str, Any]:
    """Fine-tune; the best adapter and history.jsonl lie in `--out`."""
    transformers_logging.set_verbosity_error()
    recipe = load_recipe(args.config)
    base = args.base or default_base()
    groups = read_groups(args.data / "groups.jsonl.gz")
    devs = [
        sample(
            _retrieved(n, base, 100, args.data / "retrieved"),
            recipe.evaluate.max_queries,
            recipe.evaluate.depth,
            recipe.train.seed,
            half=n in recipe.evaluate.halves,
        )
        for n in recipe.evaluate.collections
    ]
    torch.manual_seed(recipe.train.seed)
    model = (
        continue_adapter(base, args.init)
        if args.init
        else add_lora(load_base(base, recipe.train.seed), recipe.lora)
    )
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "history.jsonl").unlink(missing_ok=True)
    train(model, load_tokenizer(base), groups, recipe, Chooser(recipe, devs, BASE_NAME, args.out))
    size = sum(p.stat().st_size for p in Path(args.out).glob("adapter_*"))
    return {"adapter": str(args.out), "bytes": size}


def evaluate_adapter(args: argparse.Namespace) -> dict[str, Any]:
    """Figures of the retriever alone and after reranking, per collection."""
    transformers_logging.set_verbosity_error()
    base = args.base or default_base()
    tokenizer, model = load_tokenizer(base), load_adapter(base, args.adapter)
    devs = [_retrieved(n, base, args.top_k, args.cache) for n in args.collections]
    return {dev.name: compare(model, tokenizer, dev, args.max_length) for dev in devs}
