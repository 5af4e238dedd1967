"""One other reranker, in a process and an environment of its own.

`python peers_child.py prepare FOLDER` makes what the rerankers load from the checkpoint in FOLDER;
`python peers_child.py KIND FOLDER` then answers requests, one JSON line each. Imports nothing of
the project: its environment has other packages.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ONNX_INT8 = "model_qint8_avx512_vnni.onnx"
OPENVINO_INT8 = "openvino_model_qint8_quantized.xml"
# FlashRank knows models by name only; under this one it takes what lies in the folder.
FLASHRANK_NAME = "ms-marco-MiniLM-L-12-v2"
FLASHRANK_FILE = "flashrank-MiniLM-L-12-v2_Q.onnx"
MAX_TOKENS = 512
CALIBRATION = "calibration.json"

Pairs = list[tuple[str, str]]
Score = Callable[[list[Pairs], int], list[list[float]]]


def prepare(folder: Path) -> None:
    """Export and quantize as each tool's own documentation says."""
    from sentence_transformers import export_dynamic_quantized_onnx_model  # noqa: PLC0415

    if not (folder / "onnx" / ONNX_INT8).is_file():
        model = _cross_encoder(folder, "onnx", {"export": True})
        model.save_pretrained(str(folder))
        export_dynamic_quantized_onnx_model(model, "avx512_vnni", str(folder))
    if not (folder / "openvino" / OPENVINO_INT8).is_file():
        model = _cross_encoder(folder, "openvino", {"export": True})
        model.save_pretrained(str(folder))
        _quantize_openvino(folder, model.tokenizer)
    flashrank = folder / FLASHRANK_NAME
    flashrank.mkdir(exist_ok=True)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (flashrank / name).write_bytes((folder / name).read_bytes())
    # Newer tokenizers keep the special tokens in their other files.
    special = folder / "special_tokens_map.json"
    (flashrank / special.name).write_text(special.read_text() if special.is_file() else "{}")
    (flashrank / FLASHRANK_FILE).write_bytes((folder / "onnx" / ONNX_INT8).read_bytes())


def open_kind(kind: str, folder: Path) -> Score:
    """Return the function that scores lists of pairs."""
    if kind == "flashrank":
        return _flashrank(folder)
    backend, _, precision = kind.partition("-")
    files = {"onnx-int8": f"onnx/{ONNX_INT8}", "openvino-int8": f"openvino/{OPENVINO_INT8}"}
    arguments = {"file_name": files[kind]} if precision == "int8" else {}
    return _predict(_cross_encoder(folder, backend, arguments))


def _cross_encoder(folder: Path, backend: str, arguments: dict[str, Any]) -> Any:
    from sentence_transformers import CrossEncoder  # noqa: PLC0415

    if backend == "onnx":
        arguments = {**arguments, "provider": "CPUExecutionProvider"}
    return CrossEncoder(
        str(folder),
        backend=backend,
        device="cpu",
        max_length=MAX_TOKENS,
        model_kwargs=arguments,
        local_files_only=True,
    )


def _predict(model: Any) -> Score:
    import torch  # noqa: PLC0415

    def score(questions: list[Pairs], batch_size: int) -> list[list[float]]:
        flat = [pair for pairs in questions for pair in pairs]
        logits = model.predict(
            flat,
            batch_size=batch_size,
            activation_fn=torch.nn.Identity(),
            show_progress_bar=False,
        )
        found = iter(logits.tolist())
        return [[next(found) for _ in pairs] for pairs in questions]

    return score


def _flashrank(folder: Path) -> Score:
    from flashrank import (  # type: ignore[import-not-found]  # noqa: PLC0415
        Ranker,
        RerankRequest,
    )

    ranker = Ranker(model_name=FLASHRANK_NAME, cache_dir=str(folder), max_length=MAX_TOKENS)

    def score(questions: list[Pairs], batch_size: int) -> list[list[float]]:  # noqa: ARG001
        answers = []
        for pairs in questions:
            passages = [{"id": place, "text": text} for place, (_, text) in enumerate(pairs)]
            ranked = ranker.rerank(RerankRequest(query=pairs[0][0], passages=passages))
            by_place = {passage["id"]: float(passage["score"]) for passage in ranked}
            answers.append([by_place[place] for place in range(len(pairs))])
        return answers

    return score


def _quantize_openvino(folder: Path, tokenizer: Any) -> None:
    """Static int8 by NNCF, on the pairs that our own ranges are measured on."""
    import nncf  # type: ignore[import-not-found]  # noqa: PLC0415
    import openvino  # noqa: PLC0415

    pairs = json.loads((folder / CALIBRATION).read_text())
    batches = [
        dict(tokenizer(query, text, truncation=True, max_length=MAX_TOKENS, return_tensors="np"))
        for query, text in pairs
    ]
    model = openvino.Core().read_model(folder / "openvino" / "openvino_model.xml")
    quantized = nncf.quantize(
        model,
        nncf.Dataset(batches),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(batches),
    )
    openvino.save_model(quantized, folder / "openvino" / OPENVINO_INT8, compress_to_fp16=False)


def serve(score: Score) -> None:
    """Answer each line of `{"questions", "one_at_a_time", "batch_size"}` with times and scores."""
    out = sys.stdout
    sys.stdout = sys.stderr  # Libraries print what they like.
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        questions = [
            [(query, text) for text in documents] for query, documents in request["questions"]
        ]
        groups = [[each] for each in questions] if request["one_at_a_time"] else [questions]
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        scores = [row for group in groups for row in score(group, request["batch_size"])]
        answer = {
            "wall_s": time.perf_counter() - wall_s,
            "cpu_s": time.process_time() - cpu_s,
            "scores": scores,
        }
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(Path(sys.argv[2]))
    else:
        serve(open_kind(sys.argv[1], Path(sys.argv[2])))
