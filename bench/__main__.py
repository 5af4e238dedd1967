"""`python -m bench`: throughput and latency of the engine and of the whole worker."""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bench.engine_bundles import BenchError, make_model, make_plain
from bench.engine_lengths import at_lengths
from bench.engine_runs import Amount, Engine, throughput
from bench.engine_stages import stage_costs
from bench.engine_texts import Question, Texts, load_texts
from bench.report import Machine, Table, show, wide_console, write
from bench.report_plots import MISSING, plot
from bench.worker_loads import latencies
from bench.worker_runs import comparison
from engine.bundles import Bundle
from engine.devices import open_graph
from engine.graph import Graph, OnnxGraph
from engine.openvino_graph import OpenVinoMissingError
from schemas.manifests import ModelManifest
from tests.services.kafka import KafkaCluster
from tests.services.process import ServiceFailed, ServiceMissing

DESCRIPTION = """\
Measure the engine and the whole worker; write bench.json, bench.md and plots below --out.

What is compared is measured in turn, so that noise meets all alike. Other work on the machine
still moves figures: trust ratios more than pairs/s, and CPU time more than the clock.
"""
OUT = Path("build/bench")
WORKER_LANES = 2


@dataclass(frozen=True)
class Plan:
    """How long to measure. Times are on two idle cores."""

    graph_rounds: int
    engine: Amount
    stage_rounds: int
    worker_questions: int
    worker_rounds: int
    loads: Sequence[float]
    load_s: float


QUICK = Plan(5, Amount(2, 8, 50, 5), 3, 8, 2, (0.5,), 8)
FULL = Plan(8, Amount(3, 12, 100, 6), 3, 20, 3, (0.25, 0.5, 0.75, 0.9), 15)


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write; return the exit code."""
    options = _parser().parse_args(arguments)
    plan = QUICK if options.quick else FULL
    console, errors = wide_console(), Console(stderr=True)
    try:
        bundles = {
            "int8": make_model(options.out, "int8"),
            "fp32": make_model(options.out, "fp32"),
        }
        machine, texts = Machine.here(), load_texts()
        graphs: dict[str, Graph] = {
            **{name: OnnxGraph.open(bundle) for name, bundle in bundles.items()},
            "int8 on standard operators": OnnxGraph.open(bundles["int8"], kernels=False),
            "plain fp32": make_plain(options.out, bundles["fp32"]),
            **_on_openvino(bundles["int8"]),
        }
        tables = [at_lengths(graphs, plan.graph_rounds)]
        tables += throughput(bundles, texts, plan.engine)
        questions = texts.natural(plan.worker_questions, plan.engine.natural_candidates)
        tables += stage_costs(bundles["int8"], questions, plan.stage_rounds)
        if not options.no_worker:
            tables += _worker(plan, bundles, texts, errors)
    except (BenchError, ServiceFailed) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    show(console, machine, tables)
    write(options.out, "bench", machine, tables)
    plots = plot(options.out, tables)
    written = [options.out / "bench.json", options.out / "bench.md", *plots]
    console.print(" ".join(map(str, written)) + ("" if plots else f" ({MISSING})"))
    return 0


def _on_openvino(bundle: Bundle[ModelManifest]) -> dict[str, Graph]:
    try:
        return {"int8 on OpenVINO": open_graph(bundle, "openvino", 1)}
    except OpenVinoMissingError:
        return {}


def _worker(
    plan: Plan, bundles: Mapping[str, Bundle[ModelManifest]], texts: Texts, errors: Console
) -> list[Table]:
    """Measure the worker, or say what the machine lacks for it."""
    questions = texts.natural(plan.worker_questions, plan.engine.natural_candidates)
    try:
        with KafkaCluster() as cluster, tempfile.TemporaryDirectory() as scratch:
            return _on_broker(plan, bundles, questions, cluster, Path(scratch))
    except ServiceMissing as missing:
        errors.print(f"worker not measured: {missing}", highlight=False)
        return []


def _on_broker(
    plan: Plan,
    bundles: Mapping[str, Bundle[ModelManifest]],
    questions: Sequence[Question],
    cluster: KafkaCluster,
    scratch: Path,
) -> list[Table]:
    bundle = bundles["int8"]
    fp32_mib = bundles["fp32"].file("model.onnx").stat().st_size / 2**20
    engine = Engine.open(bundle, WORKER_LANES)
    try:
        with comparison(cluster, scratch, engine, bundle.path) as compared:
            table = compared.all_of_it(questions, plan.worker_rounds, fp32_mib)
            capacity = compared.questions_per_s(questions)
            loads = latencies(compared.service, questions, capacity, plan.loads, plan.load_s)
    finally:
        engine.lanes.close()
    return [table, loads]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="less of everything, about a minute")
    parser.add_argument("--no-worker", action="store_true", help="the engine alone")
    parser.add_argument("--out", type=Path, default=OUT, help=f"folder (default: {OUT})")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
