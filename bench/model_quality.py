"""What each precision of the default reranker costs in quality, beside fp32."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.report import Row, Table
from engine.bundles import open_model
from engine.score import Scorer
from export import gate
from export.bars import progress
from export.evaluation_set import EvaluationSet, load_evaluation_set
from export.model_steps import Request, export_model
from schemas.manifests import Precision

SMALLER: tuple[Precision, ...] = ("fp16", "int8", "int4")
LANES = 2


def quality_table(folder: Path, data: Sequence[Path]) -> list[Table]:
    """Export the default reranker, and judge it by the built-in set and each of `data`."""
    bundles = {
        precision: export_model(Request(precision=precision, out=folder / f"default-{precision}"))
        for precision in ("fp32", *SMALLER)
    }
    sizes = {
        precision: sum(file.bytes for file in summary.manifest.files.values())
        for precision, summary in bundles.items()
    }
    rows: list[Row] = []
    for path in (None, *data):
        judged = load_evaluation_set(path)
        expected = _logits(bundles["fp32"].out, judged)
        for precision in SMALLER:
            found = gate.compare(judged, expected, _logits(bundles[precision].out, judged))
            rows.append(
                {
                    "collection": judged.name,
                    "queries": len(judged.queries),
                    "precision": precision,
                    "MB": round(sizes[precision] / 1e6, 1),
                    "size": f"{sizes[precision] / sizes['fp32']:.1%}",
                    "NDCG@10": round(found.quantized["NDCG@10"], 4),
                    "fp32": round(found.fp32["NDCG@10"], 4),
                    "ratio": f"{found.ratio:.2%}",
                    "Kendall's tau": round(found.kendall_tau, 3),
                    "p99 difference": round(found.p99_difference, 3),
                }
            )
    note = "candidates of each query: what it was judged with, filled up to 20 by shared words"
    return [Table("quality", "The default reranker", rows, note)]


def _logits(bundle: Path, judged: EvaluationSet) -> np.ndarray:
    scorer = Scorer.open(open_model(bundle), LANES)
    try:
        with progress("Judging", total=None):
            return np.asarray([pair.logit for pair in scorer.score(judged.pairs)], np.float32)
    finally:
        scorer.close()
