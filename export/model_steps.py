"""The way from a checkpoint to a model bundle, step by step."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import onnx
from transformers import PreTrainedModel

from engine.bundles import open_model
from engine.pairs import PairEncoder
from export import fp32, trimmed
from export.bars import progress
from export.calibration import CalibrationPairs, load_pairs
from export.checkpoint import (
    DEFAULT_NAME,
    Adapter,
    Checkpoint,
    default_checkpoint,
    open_adapter,
    open_checkpoint,
)
from export.errors import UnsupportedPrecisionError
from export.families import Encoder, encoder_of
from export.fusion import read_fusion
from export.graph_writer import save
from export.int8.babble import babble
from export.int8.choose import ALPHAS, Trial, int8_graph
from export.int8.choose import RECIPE as INT8_RECIPE
from export.int8.ranges import measure
from export.merge import load_merged
from export.pair_template import derive_template, load_tokenizer, prove_template, write_tokenizer
from export.scoring import Workbench, encode_pairs, fitting, score_all
from export.seal import seal, staging_beside
from export.tools import tool_versions
from export.verify import Agreement, agreement, check_against_torch, check_batches, for_manifest
from schemas.manifests import ModelManifest, PairTemplate, Precision, Verification

MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True)
class Request:
    """What to export; None is the default of the command's option."""

    precision: Precision
    out: Path
    model: str | None = None
    adapter: Path | None = None
    name: str | None = None
    max_tokens: int | None = None
    calibration: Path | None = None
    force: bool = False


@dataclass(frozen=True)
class Made:
    """A verified graph. `alpha` is SmoothQuant's, None where channels stay as they are."""

    model: onnx.ModelProto
    recipe: str
    fp32_difference: float
    rows_checked: int
    alpha: float | None = None
    agreement: Agreement | None = None
    verification: Verification | None = None


@dataclass(frozen=True)
class Summary:
    """What was written."""

    out: Path
    digest: str
    manifest: ModelManifest
    made: Made
    seconds: float


def export_model(request: Request) -> Summary:
    """Write a model bundle; raises ExportError, and then `out` is as it was."""
    begun = time.monotonic()
    with (
        staging_beside(request.out, force=request.force) as staging,
        tempfile.TemporaryDirectory() as scratch,
    ):
        checkpoint, adapter = _open(request)
        pairs = load_pairs(request.calibration)
        with progress("Loading the weights"):
            network = load_merged(checkpoint, adapter)
        template = _write_tokenizer(checkpoint, request.max_tokens, staging / TOKENIZER_FILE)
        encoder = PairEncoder.load(staging / TOKENIZER_FILE, template)
        bench = Workbench(Path(scratch), template.token_types)
        made = _Maker(network, fitting(encoder, pairs), encoder, bench).make(request.precision)
        save(made.model, staging / MODEL_FILE)
        manifest = _describe(request, checkpoint, adapter, template, made)
        seal(staging, manifest, request.out, force=request.force)
    bundle = open_model(request.out)
    seconds = time.monotonic() - begun
    return Summary(request.out, bundle.digest, bundle.manifest, made, seconds)


def _open(request: Request) -> tuple[Checkpoint, Adapter | None]:
    adapter = None if request.adapter is None else open_adapter(request.adapter)
    if request.model is not None:
        return open_checkpoint(request.model), adapter
    checkpoint, own = default_checkpoint(with_adapter=adapter is None)
    return checkpoint, adapter or own


def _write_tokenizer(checkpoint: Checkpoint, max_tokens: int | None, file: Path) -> PairTemplate:
    tokenizer = load_tokenizer(checkpoint)
    write_tokenizer(tokenizer, file)
    template = derive_template(tokenizer, checkpoint.config, max_tokens)
    prove_template(tokenizer, template, file)
    return template


@dataclass(frozen=True)
class _Maker:
    """Makes and verifies graphs of one network on one set of pairs."""

    network: PreTrainedModel
    pairs: CalibrationPairs
    encoder: PairEncoder
    bench: Workbench

    def make(self, precision: Precision) -> Made:
        weights = encoder_of(self.network)
        if precision == "fp32":
            return self._fp32(weights)
        if weights is None:
            raise UnsupportedPrecisionError(
                f"int8 isn't made for models of the family {self.network.config.model_type!r} "
                "yet: use --precision fp32"
            )
        return self._int8(weights)

    def _fp32(self, weights: Encoder | None) -> Made:
        judge = encode_pairs(self.encoder, self.pairs.judge)
        with progress("Writing the fp32 graph and checking it against the model"):
            if weights is None:
                model, recipe = fp32.optimum_graph(self.network), fp32.RECIPE
            else:
                model, recipe = trimmed.build(weights, trimmed.Fp32Products()), trimmed.RECIPE
            graph = self.bench.open(model)
            difference = check_against_torch(self.network, graph, judge)
            return Made(model, recipe, difference, check_batches(graph, judge))

    def _int8(self, weights: Encoder) -> Made:
        reference = self._fp32(weights)
        judge = encode_pairs(self.encoder, self.pairs.judge)
        with progress("Measuring ranges"):
            measured = encode_pairs(self.encoder, self.pairs.measure)
            measured += babble(self.encoder.tokenizer, self.encoder.template)
            ranges = measure(weights, measured, self.bench)
            expected = score_all(self.bench.open(reference.model), judge)
        trials = []
        with progress("Choosing the smoothing", total=len(ALPHAS)) as advance:
            for alpha in ALPHAS:
                model = int8_graph(weights, ranges, alpha)
                logits = score_all(self.bench.open(model), judge)
                trials.append(Trial.of(alpha, model, logits, expected))
                advance(1)
        best = min(trials, key=lambda trial: trial.rms_error)
        with progress("Verifying"):
            found = agreement(self.pairs.judge, expected, best.logits)
            checked = check_batches(self.bench.open(best.model), judge)
        return Made(
            best.model,
            INT8_RECIPE,
            reference.fp32_difference,
            checked,
            alpha=best.alpha,
            agreement=found,
            verification=for_manifest(found, self.pairs.name),
        )


def _describe(
    request: Request,
    checkpoint: Checkpoint,
    adapter: Adapter | None,
    template: PairTemplate,
    made: Made,
) -> ModelManifest:
    name = request.name or (DEFAULT_NAME if request.model is None else checkpoint.source.name)
    return ModelManifest(
        name=name,
        family=checkpoint.family,
        precision=request.precision,
        recipe=made.recipe,
        inputs=tuple(value.name for value in made.model.graph.input),
        output=trimmed.OUTPUT,
        pair=template,
        pad_token_id=int(checkpoint.config.get("pad_token_id") or 0),
        disabled_optimizers=trimmed.DISABLED_OPTIMIZERS,
        base=checkpoint.source,
        adapter=adapter.source if adapter else None,
        tools=tool_versions(),
        verification=made.verification,
        fusion=read_fusion(adapter.path if adapter else checkpoint.path),
        files={},
    )
