"""`python -m export model`: a checkpoint into a verified model bundle."""

import argparse
from pathlib import Path
from typing import Any

from export.gate import GateError

PRECISIONS = ("fp32", "fp16", "int8", "int4")


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "model",
        help="a checkpoint into a verified model bundle",
        description="Turns a cross-encoder, with or without a LoRA adapter, into a model bundle. "
        "Nothing is written unless the graph was verified.",
    )
    parser.add_argument(
        "--model",
        metavar="PATH_OR_ID",
        help="folder or Hugging Face id of a cross-encoder or a Qwen3-Reranker; default: the "
        "reranker that comes with this package",
    )
    parser.add_argument(
        "--adapter", type=Path, metavar="PATH", help="folder of a LoRA adapter (PEFT) to merge"
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        required=True,
        help="int8 is the fastest on a CPU, at a quarter of the size; int4 is the smallest; fp16 "
        "is for GPUs (docs/models.md)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the bundle's folder"
    )
    parser.add_argument("--name", help="the model's name in results; default: the checkpoint's")
    parser.add_argument(
        "--max-tokens",
        type=int,
        metavar="N",
        help="longest pair; longer documents are cut (default: what the model reads, at most 512)",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="PATH",
        help='JSON lines of {"query", "document"} like those to come, or a BEIR folder; '
        "default: built-in pairs",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="BEIR_DIR",
        help="judged queries by which the bundle is let through; default: a small built-in set",
    )
    parser.add_argument(
        "--instruction",
        metavar="TEXT",
        help="what a decoder judges by (Qwen3-Reranker); default: what `training` kept beside it, "
        "or that of its model card",
    )
    parser.add_argument("--replace", action="store_true", help="replace the bundle at --out")
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace it, and also write a bundle that ranks worse than it may: its manifest "
        "says so",
    )
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run the code that the checkpoint brings along; read it first",
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Export, print the summary on standard output, and return the exit code."""
    # Imports PyTorch and more, which takes seconds: not for `--help`, nor for a wrong option.
    from export.model_steps import Request, export_model  # noqa: PLC0415
    from export.summary import print_refusal, print_summary  # noqa: PLC0415

    request = Request(
        model=arguments.model,
        adapter=arguments.adapter,
        precision=arguments.precision,
        out=arguments.out,
        name=arguments.name,
        max_tokens=arguments.max_tokens,
        instruction=arguments.instruction,
        calibration=arguments.calibration,
        data=arguments.data,
        replace=arguments.replace,
        force=arguments.force,
        trust_remote_code=arguments.trust_remote_code,
    )
    try:
        summary = export_model(request)
    except GateError as error:
        print_refusal(error, as_json=arguments.json)
        raise
    print_summary(summary, as_json=arguments.json)
    return 0
