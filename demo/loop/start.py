"""The model that the loop begins with, as a checkpoint and as the bundle that serves first.

`default` is the reranker that comes with this package, with its fusion. `fresh` is its base with
a head of random weights: a model that knows nothing of ranking, so that its bundle leaves the
retriever's order as it is. Anything else is a checkpoint's folder.
"""

import shutil
from pathlib import Path

from transformers import AutoModelForSequenceClassification, set_seed

from engine.bundles import open_index
from export.checkpoint import DEFAULT_ADAPTER, DEFAULT_BASE, default_checkpoint
from export.fusion import FUSION_FILE
from export.pair_template import load_tokenizer
from schemas.manifests import Fusion
from training.finetune import start as starts
from training.run_folder import write_json, written_beside

DEFAULT = "default"
FRESH = "fresh"
# The retriever's scores differ by more than this times a logit.
_NEXT_TO_NOTHING = 1e-6


def described(base: str) -> str:
    """Return what the output calls it."""
    if base == FRESH:
        return f"{DEFAULT_BASE} with a head of random weights; lists in the retriever's order"
    return "the default reranker, with its fusion" if base == DEFAULT else base


def check_start(base: str) -> None:
    """Find the model without loading weights; raises CheckpointError, FinetuneError."""
    if base == FRESH:
        default_checkpoint(with_adapter=False)
        return
    starts.find_trainable(base, None)


def write_start(base: str, folder: Path, index: Path, seed: int, *, fuse: bool) -> None:
    """Write the checkpoint, with a fusion for `index` beside it where one is to serve."""
    shutil.rmtree(folder, ignore_errors=True)
    if base == FRESH:
        _write_fresh(folder, seed)
    else:
        starts.write(starts.load(base, None), folder)
    if not fuse:
        return
    if base == FRESH:
        write_json(folder / FUSION_FILE, _retrieval_order(index).model_dump(mode="json"))
    elif base == DEFAULT:
        shutil.copyfile(DEFAULT_ADAPTER / FUSION_FILE, folder / FUSION_FILE)


def _write_fresh(folder: Path, seed: int) -> None:
    checkpoint, _ = default_checkpoint(with_adapter=False)
    set_seed(seed)
    network = AutoModelForSequenceClassification.from_pretrained(checkpoint.path, num_labels=1)
    with written_beside(folder) as beside:
        network.save_pretrained(beside)
        load_tokenizer(checkpoint).save_pretrained(beside)


def _retrieval_order(index: Path) -> Fusion:
    return Fusion(
        logit_scale=_NEXT_TO_NOTHING,
        retrieval_weight=1.0,
        embedder=open_index(index).manifest.embedder.source.digest,
    )
