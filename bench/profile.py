"""`python -m bench.profile`: what one batch of the int8 graph spends its time on, by operator."""

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime as ort

from bench.engine_bundles import BenchError, make_model
from bench.engine_lengths import LENGTHS, VOCABULARY
from bench.report import Machine, Row, Table, show, wide_console, write
from engine.batches import MAX_BATCH_TOKENS, MAX_ROWS
from engine.bundles import Bundle, open_model
from engine.errors import BundleError
from engine.graph import session_options
from schemas.manifests import ModelManifest

OUT = Path("build/bench")
BATCHES, WARM_UPS = 20, 3
SHOWN = 8


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.add_argument("--model-bundle", type=Path, help="default: the default reranker in int8")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    try:
        given = options.model_bundle
        bundle = make_model(options.out, "int8") if given is None else open_model(given)
    except (BenchError, BundleError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    machine = Machine.here()
    tables = [profile(bundle)]
    show(wide_console(), machine, tables)
    write(options.out, "profile", machine, tables)
    return 0


def profile(bundle: Bundle[ModelManifest]) -> Table:
    """Run batches as the lanes make them; return µs a pair of each operator."""
    found = {length: _operators(bundle, length) for length in LENGTHS}
    total: Counter[str] = Counter()
    for costs in found.values():
        total.update(costs)
    names = [name for name, _ in total.most_common(SHOWN)]
    rows: list[Row] = [
        {"operator": name}
        | {f"{length} tokens": _text(costs, name) for length, costs in found.items()}
        for name in names
    ]
    rest = {
        length: sum(costs[name] for name in costs if name not in names)
        for length, costs in found.items()
    }
    rows.append(
        {"operator": "all others"}
        | {f"{length} tokens": f"{us:.0f}" for length, us in rest.items()}
    )
    rows.append(
        {"operator": "sum"}
        | {f"{length} tokens": f"{costs.total():.0f}" for length, costs in found.items()}
    )
    note = (
        f"µs a pair and share, medians of {BATCHES} batches; one thread, ONNX Runtime's own profile"
    )
    return Table("profile", "One batch, by operator", rows, note)


def _operators(bundle: Bundle[ModelManifest], length: int) -> "Counter[str]":
    manifest = bundle.manifest
    rows = max(1, min(MAX_ROWS, MAX_BATCH_TOKENS // length))
    options = session_options()
    options.enable_profiling = True
    chance = np.random.default_rng(length)
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(
            str(bundle.file("model.onnx")),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=set(manifest.disabled_optimizers),
        )
        types = np.tile((np.arange(length) >= length // 4).astype(np.int64), (rows, 1))
        feeds = {"token_type_ids": types, "attention_mask": np.ones_like(types)}
        for _ in range(BATCHES + WARM_UPS):
            feeds["input_ids"] = chance.integers(*VOCABULARY, size=(rows, length))
            session.run([manifest.output], {name: feeds[name] for name in manifest.inputs})
        events = json.loads(Path(session.end_profiling()).read_text())
    times: dict[str, list[int]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times.setdefault(event["name"], []).append(event["dur"])
    kinds = {event["name"]: event["args"]["op_name"] for event in events if event["name"] in times}
    costs: Counter[str] = Counter()
    for name, durations in times.items():
        costs[kinds[name]] += round(median(durations[WARM_UPS:]) / rows)
    return costs


def _text(costs: "Counter[str]", name: str) -> str:
    return f"{costs[name]:,} ({costs[name] / costs.total():.0%})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
