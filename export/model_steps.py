"""The way from a checkpoint to a model bundle, step by step."""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from transformers import PreTrainedTokenizerFast

from engine.bundles import open_model
from engine.graph import MASK, OnnxGraph
from engine.pairs import EncodedPair, PairEncoder
from export import gate, trimmed
from export.adapters import Family, Fp32Graph, Network, family_of
from export.bars import progress
from export.calibration import CalibrationPairs
from export.checkpoint import (
    DEFAULT_NAME,
    Adapter,
    Checkpoint,
    default_checkpoint,
    open_adapter,
    open_checkpoint,
)
from export.errors import FillingError
from export.evaluation_set import EvaluationSet, load_calibration, load_evaluation_set
from export.fusion import read_fusion
from export.gate import Attempt
from export.graph_writer import save
from export.instruction import instruction_for
from export.merge import load_merged
from export.pair_template import load_tokenizer, write_tokenizer
from export.quantize.babble import babble
from export.recipes import Candidate, Kitchen
from export.scoring import Workbench, encode_pairs, fitting, readable, score_all
from export.seal import seal, staging_beside
from export.tools import tool_versions
from export.verify import check_against_torch, check_batches, check_filled
from schemas.manifests import ModelManifest, PairTemplate, Precision, Verification

MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True)
class Request:
    """What to export; None is the default of the command's option.

    `replace` lets a bundle at `out` be replaced, `force` also a graph be written that falls short.
    """

    precision: Precision
    out: Path
    model: str | None = None
    adapter: Path | None = None
    name: str | None = None
    max_tokens: int | None = None
    instruction: str | None = None
    calibration: Path | None = None
    data: Path | None = None
    replace: bool = False
    force: bool = False
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Made:
    """A verified graph; `attempts` are all recipes that were tried, the last is this one."""

    model: onnx.ModelProto
    recipe: str
    disabled_optimizers: tuple[str, ...]
    fp32_difference: float
    rows_checked: int
    attempts: tuple[Attempt, ...] = ()
    verification: Verification | None = None


@dataclass(frozen=True)
class Summary:
    """What was written."""

    out: Path
    digest: str
    manifest: ModelManifest
    made: Made
    seconds: float


@dataclass(frozen=True)
class Loaded:
    """A checkpoint whose weights are in memory."""

    checkpoint: Checkpoint
    adapter: Adapter | None
    family: Family
    network: Network
    tokenizer: PreTrainedTokenizerFast

    @property
    def pad_token_id(self) -> int:
        """Return the id that fills up sequences."""
        return int(self.checkpoint.config.get("pad_token_id") or 0)


def export_model(request: Request) -> Summary:
    """Write a model bundle; raises ExportError, and then `out` is as it was."""
    begun = time.monotonic()
    may_replace = request.replace or request.force
    with (
        staging_beside(request.out, force=may_replace, flag="--replace") as staging,
        tempfile.TemporaryDirectory() as scratch,
    ):
        data, pairs = _read_pairs(request)
        loaded = _load(request)
        template = _write_tokenizer(loaded, request.max_tokens, staging / TOKENIZER_FILE)
        encoder = PairEncoder.load(staging / TOKENIZER_FILE, template)
        maker = _Maker(loaded, encoder, fitting(encoder, pairs), Path(scratch), request.force)
        made = maker.make(request.precision, data)
        save(made.model, staging / MODEL_FILE)
        manifest = _describe(request, loaded, template, made)
        seal(staging, manifest, request.out, force=may_replace)
    bundle = open_model(request.out)
    seconds = time.monotonic() - begun
    return Summary(request.out, bundle.digest, bundle.manifest, made, seconds)


def _read_pairs(request: Request) -> tuple[EvaluationSet | None, CalibrationPairs]:
    """Read what judges and what calibrates: of one folder for both, every other query each."""
    data_at, calibration_at = (
        path.resolve() if path is not None else None for path in (request.data, request.calibration)
    )
    both = data_at is not None and data_at == calibration_at
    data = None
    if request.precision != "fp32":
        data = load_evaluation_set(request.data, half=1 if both else None)
    return data, load_calibration(request.calibration, half=0 if both else None)


def _load(request: Request) -> Loaded:
    checkpoint, adapter = _open(request)
    family = family_of(checkpoint, instruction_for(request.instruction, checkpoint, adapter))
    tokenizer = load_tokenizer(checkpoint)
    with progress("Loading the weights"):
        network = family.network(load_merged(checkpoint, adapter), tokenizer)
    return Loaded(checkpoint, adapter, family, network, tokenizer)


def _open(request: Request) -> tuple[Checkpoint, Adapter | None]:
    adapter = None if request.adapter is None else open_adapter(request.adapter)
    if request.model is not None:
        trusted = request.trust_remote_code
        return open_checkpoint(request.model, trust_remote_code=trusted), adapter
    checkpoint, own = default_checkpoint(with_adapter=adapter is None)
    return checkpoint, adapter or own


def _write_tokenizer(loaded: Loaded, max_tokens: int | None, file: Path) -> PairTemplate:
    template = loaded.family.template(loaded.tokenizer, loaded.checkpoint, max_tokens)
    write_tokenizer(loaded.tokenizer, file)
    loaded.family.prove(loaded.tokenizer, template, file)
    return template


@dataclass(frozen=True)
class _Maker:
    """Makes the graph of a precision; every graph that it returns was verified."""

    loaded: Loaded
    encoder: PairEncoder
    pairs: CalibrationPairs
    scratch: Path
    force: bool

    def make(self, precision: Precision, data: EvaluationSet | None) -> Made:
        """Return the first graph that passes, or with `force` the first of all.

        `data` None makes fp32. Raises VerificationError, GateError. An fp16 graph that can't do
        with sequences filled up behind a mask is made without one.
        """
        if precision == "fp16":
            try:
                return self._make(precision, data, mask=True)
            except FillingError as error:
                sys.stderr.write(
                    f"{error}: exporting without a mask, so GPUs get batches of exact lengths\n"
                )
        return self._make(precision, data, mask=False)

    def _make(self, precision: Precision, data: EvaluationSet | None, *, mask: bool) -> Made:
        compared = encode_pairs(self.encoder, self.pairs.judge)
        family, network = self.loaded.family, self.loaded.network
        with progress("Writing the fp32 graph and checking it against the model"):
            # GPUs know the standard operators best; they decide what runs in fp16. And they are
            # slow on many lengths, so they get a mask.
            half = precision == "fp16"
            fp32 = family.plain_graph(network, mask=mask) if half else family.graph(network)
            graph = self._bench(fp32).open(fp32.model)
            made = Made(
                fp32.model,
                fp32.recipe,
                fp32.disabled_optimizers,
                check_against_torch(network, graph, compared),
                self._check(graph, compared),
            )
        if data is None:
            return made
        return self._smaller(precision, readable(self.encoder, data), fp32, made)

    def _smaller(
        self, precision: Precision, data: EvaluationSet, fp32: Fp32Graph, reference: Made
    ) -> Made:
        compared = encode_pairs(self.encoder, self.pairs.judge)
        measured = encode_pairs(self.encoder, self.pairs.measure)
        measured += babble(self.encoder.tokenizer, self.encoder.template)
        bench = self._bench(fp32)
        attempts, first, last = self._try(precision, data, Kitchen(fp32, measured, compared, bench))
        if not attempts[-1].passed and not self.force:
            raise gate.refuse(attempts, precision, data)
        # By force the first recipe is written: the one that was asked for.
        chosen, best = (attempts[-1], last) if attempts[-1].passed else (attempts[0], first)
        return replace(
            reference,
            model=best.model,
            recipe=best.recipe,
            rows_checked=self._check(bench.open(best.model), compared),
            attempts=attempts,
            verification=gate.for_manifest(attempts, chosen, precision, data),
        )

    def _check(self, graph: OnnxGraph, pairs: Sequence[EncodedPair]) -> int:
        if MASK in graph.inputs:
            check_filled(graph, pairs, self.loaded.pad_token_id, self.encoder.template.max_tokens)
        return check_batches(graph, pairs)

    def _try(
        self, precision: Precision, data: EvaluationSet, kitchen: Kitchen
    ) -> tuple[tuple[Attempt, ...], Candidate, Candidate]:
        """Judge candidates until one passes; return all attempts, the first and the last graph."""
        bench = kitchen.bench
        asked = encode_pairs(self.encoder, data.pairs)
        with progress("Judging fp32"):
            expected = score_all(bench.open(kitchen.fp32.model), asked)
        attempts: list[Attempt] = []
        candidates: list[Candidate] = []
        for candidate in kitchen.candidates(precision):
            with progress(f"Judging {candidate.recipe}"):
                logits = score_all(bench.open(candidate.model), asked)
                figures = gate.compare(data, expected, logits)
            attempts.append(gate.judge(candidate.recipe, precision, figures))
            candidates = [*candidates[:1], candidate]  # the others are large, and not needed
            if attempts[-1].passed:
                break
        return tuple(attempts), candidates[0], candidates[-1]

    def _bench(self, fp32: Fp32Graph) -> Workbench:
        token_types = self.encoder.template.token_types
        return Workbench(self.scratch, token_types, fp32.disabled_optimizers)


def _describe(
    request: Request, loaded: Loaded, template: PairTemplate, made: Made
) -> ModelManifest:
    checkpoint, adapter = loaded.checkpoint, loaded.adapter
    name = request.name or (DEFAULT_NAME if request.model is None else checkpoint.source.name)
    return ModelManifest(
        name=name,
        family=checkpoint.family,
        precision=request.precision,
        recipe=made.recipe,
        inputs=tuple(value.name for value in made.model.graph.input),
        output=trimmed.OUTPUT,
        pair=template,
        pad_token_id=loaded.pad_token_id,
        disabled_optimizers=made.disabled_optimizers,
        base=checkpoint.source,
        adapter=adapter.source if adapter else None,
        tools=tool_versions(),
        verification=made.verification,
        fusion=read_fusion(adapter.path if adapter else checkpoint.path),
        files={},
    )
