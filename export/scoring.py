"""Runs graphs that aren't bundles yet, in the engine's own way."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from engine.errors import QueryTooLongError
from engine.graph import Logits, OnnxGraph, session_options
from engine.lanes import Lanes
from engine.pairs import EncodedPair, PairEncoder
from export.calibration import CalibrationPairs, Pair, by_query
from export.errors import CalibrationError, ExportError, VerificationError
from export.evaluation_set import EvaluationSet
from export.graph_writer import save
from export.trimmed import DISABLED_OPTIMIZERS, OUTPUT

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Workbench:
    """Opens graphs in a scratch folder; the other fields are as in the manifest."""

    scratch: Path
    token_types: bool
    disabled_optimizers: tuple[str, ...] = DISABLED_OPTIMIZERS

    def open(self, model: onnx.ModelProto) -> OnnxGraph:
        """Open a graph as a worker would: one thread, and the same optimizers."""
        file = self.scratch / "trial.onnx"
        save(model, file)
        session = ort.InferenceSession(
            str(file),
            session_options(),
            providers=["CPUExecutionProvider"],
            disabled_optimizers=set(self.disabled_optimizers),
        )
        names = tuple(value.name for value in model.graph.input)
        return OnnxGraph(session, names, OUTPUT, self.token_types)


def fitting(encoder: PairEncoder, pairs: CalibrationPairs) -> CalibrationPairs:
    """Leave out queries that are too long for the model; raises CalibrationError if all are."""
    measure = _with_short_queries(encoder, pairs.measure)
    judge = _with_short_queries(encoder, pairs.judge)
    if not measure or not judge:
        limit = encoder.template.max_query_tokens
        raise CalibrationError(
            f"{pairs.name}: too few queries of at most {limit} tokens, all that the model reads: "
            "give shorter ones with --calibration, or raise --max-tokens"
        )
    return CalibrationPairs(pairs.name, measure, judge)


def _with_short_queries(encoder: PairEncoder, pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    def fits(query: str) -> bool:
        try:
            encoder.encode_query(query)
        except QueryTooLongError:
            return False
        return True

    short = {query for query in dict(pairs) if fits(query)}
    return tuple(pair for pair in pairs if pair[0] in short)


def readable(encoder: PairEncoder, data: EvaluationSet) -> EvaluationSet:
    """Leave out queries that are too long for the model; raises ExportError if all are."""
    short = dict(_with_short_queries(encoder, data.pairs))
    queries = tuple(judged for judged in data.queries if judged.query in short)
    if not queries:
        raise ExportError(
            f"{data.name}: all queries have more than {encoder.template.max_query_tokens} tokens, "
            "all that the model reads: give others with --data, or raise --max-tokens"
        )
    return EvaluationSet(data.name, queries)


def encode_pairs(encoder: PairEncoder, pairs: Sequence[Pair]) -> list[EncodedPair]:
    """Return token ids in the order of `pairs`; raises QueryTooLongError."""
    encoded: dict[int, EncodedPair] = {}
    for query, positions in by_query(pairs).items():
        rows = encoder.encode(encoder.encode_query(query), [pairs[at][1] for at in positions])
        encoded.update(zip(positions, rows, strict=True))
    return [encoded[position] for position in range(len(pairs))]


def score_all(graph: OnnxGraph, pairs: Sequence[EncodedPair]) -> Logits:
    """Return float32 [pairs], on all processors; raises VerificationError where one has none."""
    lanes = Lanes(graph, os.cpu_count() or 1)
    try:
        logits = lanes.submit(pairs).result()
    finally:
        lanes.close()
    if not np.isfinite(logits).all():
        raise VerificationError("the graph gives no finite score for some pairs: don't use it")
    return logits


def outputs_of(graph: OnnxGraph, pairs: Sequence[EncodedPair]) -> dict[str, NDArray[np.float32]]:
    """Run pairs of one length and return all outputs but the logit, by name."""
    ids, starts = stack(pairs)
    types = np.arange(ids.shape[1]) >= starts[:, None] if graph.token_types else np.zeros_like(ids)
    every = {"input_ids": ids, "token_type_ids": types.astype(np.int64)}
    names = [node.name for node in graph.session.get_outputs() if node.name != OUTPUT]
    values = graph.session.run(names, {name: every[name] for name in graph.inputs})
    return dict(zip(names, values, strict=True))


def stack(pairs: Sequence[EncodedPair]) -> tuple[Ids, Ids]:
    """Return int64 ids [rows, tokens] and document starts [rows] of pairs of one length."""
    ids = np.stack([pair.ids for pair in pairs]).astype(np.int64)
    return ids, np.asarray([pair.document_start for pair in pairs], dtype=np.int64)
