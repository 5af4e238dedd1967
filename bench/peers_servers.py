"""Rerankers that are servers of their own, asked over HTTP on this machine.

They are measured where their program is there: Text Embeddings Inference is no Python package, and
Infinity asks for other versions of nearly everything. All questions that wait are asked at once,
each in a request of its own, as their users do.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]

from bench.engine_bundles import BenchError
from bench.engine_texts import Question
from bench.engine_timing import Timing
from bench.peers_child import ONNX_INT8
from bench.peers_players import Answered
from bench.peers_setup import QUIET, Setting
from tests.services.process import ServiceFailed, ServiceProcess, await_condition, free_ports

START_TIMEOUT_S = 180.0
ANSWER_TIMEOUT_S = 600.0
TOKENIZER_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
# The largest list that is asked for, and more than the 32 that servers take by default.
MOST_TEXTS = 512


@dataclass(frozen=True)
class Kind:
    """How a server is started, and how it is asked for the logits of a query's documents."""

    program: str
    # Where below the folder of its model the graph lies.
    graph: str
    arguments: Callable[[int], list[str]]
    environment: Mapping[str, str]
    request: Callable[[Question], dict[str, Any]]
    results: Callable[[Any], list[dict[str, Any]]]
    score: str


def _same(answer: Any) -> list[dict[str, Any]]:
    return list(answer)


KINDS = {
    # https://huggingface.co/docs/text-embeddings-inference, `text-embeddings-router --help`
    "tei": Kind(
        program="text-embeddings-router",
        graph="onnx/model.onnx",
        arguments=lambda port: [
            *("--model-id", ".", "--hostname", "127.0.0.1", "--port", str(port)),
            *("--max-client-batch-size", str(MOST_TEXTS), "--auto-truncate"),
        ],
        environment={},
        request=lambda question: {
            "query": question.query,
            "texts": list(question.documents),
            "raw_scores": True,
            "truncate": True,
        },
        results=_same,
        score="score",
    ),
    # https://michaelfeil.eu/infinity, `infinity_emb v2 --help`
    "infinity": Kind(
        program="infinity_emb",
        # In a folder below it finds the file, and then refuses its name.
        graph="model.onnx",
        arguments=lambda port: [
            *("v2", "--model-id", ".", "--served-model-name", "reranker"),
            *("--engine", "optimum", "--device", "cpu"),
            *("--host", "127.0.0.1", "--port", str(port)),
            *("--no-compile", "--no-bettertransformer"),
        ],
        environment={"DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"},
        request=lambda question: {
            "model": "reranker",
            "query": question.query,
            "documents": list(question.documents),
            "raw_scores": True,
        },
        results=lambda answer: list(answer["results"]),
        score="relevance_score",
    ),
}


def find_program(kind: str, named: str | None) -> str | None:
    """Return the path of a server's program; raises BenchError where the named one is not there."""
    found = shutil.which(named or KINDS[kind].program)
    if named is not None and found is None:
        raise BenchError(f"{named} is no program: give the path of {KINDS[kind].program}")
    return found


class ServerPeer:
    """A server with the same dynamic int8 graph as the other ONNX rerankers."""

    def __init__(self, kind: Kind, process: ServiceProcess, url: str) -> None:
        self._kind = kind
        self._process = process
        self._client = httpx.Client(
            base_url=url,
            timeout=ANSWER_TIMEOUT_S,
            limits=httpx.Limits(max_connections=None),
            trust_env=False,
        )

    @classmethod
    def start(cls, name: str, program: str, setting: Setting) -> "ServerPeer":
        """Start it, and return once it says that it is ready; raises BenchError."""
        kind, port = KINDS[name], free_ports(1)[0]
        folder = _model_folder(setting.checkpoint, name, kind)
        variables = [f"{key}={value}" for key, value in {**QUIET, **kind.environment}.items()]
        command = ["env", *variables, program, *kind.arguments(port)]
        process = ServiceProcess(f"peer-{name}", command, folder)
        process.start()
        peer = cls(kind, process, f"http://127.0.0.1:{port}")
        try:
            await_condition(
                lambda: not process.alive or peer.ready(),
                START_TIMEOUT_S,
                lambda: process.describe("is not ready"),
            )
        except ServiceFailed as error:
            peer.close()
            raise BenchError(f"{name} did not start: {error}") from None
        if not process.alive:
            raise BenchError(f"{name} did not start: {process.describe('ended')}")
        return peer

    def ready(self) -> bool:
        """Tell whether it answers."""
        try:
            return self._client.get("/health").is_success
        except httpx.HTTPError:
            return False

    def answer(self, questions: Sequence[Question], *, one_at_a_time: bool) -> Answered:
        """See `Player`; raises BenchError."""
        began_s, cpu_s = time.perf_counter(), self._cpu_s()
        at_once = 1 if one_at_a_time else len(questions)
        try:
            with ThreadPoolExecutor(at_once) as pool:
                scores = list(pool.map(self._ask, questions))
        except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
            raise BenchError(f"{self._process.name} gave no scores: {error}") from None
        wall_s = time.perf_counter() - began_s
        return Answered(Timing(wall_s, self._cpu_s() - cpu_s), scores)

    def close(self) -> None:
        """See `Player`."""
        self._client.close()
        self._process.terminate()

    def _ask(self, question: Question) -> list[float]:
        response = self._client.post("/rerank", json=self._kind.request(question))
        response.raise_for_status()
        by_place = {
            int(one["index"]): float(one[self._kind.score])
            for one in self._kind.results(response.json())
        }
        return [by_place[place] for place in range(len(question.documents))]

    def _cpu_s(self) -> float:
        """Return the CPU time of the server and of the processes that it has started."""
        whole = psutil.Process(self._process.pid)
        spent = [one.cpu_times() for one in (whole, *whole.children(recursive=True))]
        return float(sum(each.user + each.system for each in spent))


def _model_folder(checkpoint: Path, name: str, kind: Kind) -> Path:
    folder = checkpoint / f"server-{name}"
    graph = folder / kind.graph
    graph.parent.mkdir(parents=True, exist_ok=True)
    for file in TOKENIZER_FILES:
        if (checkpoint / file).is_file():
            shutil.copyfile(checkpoint / file, folder / file)
    shutil.copyfile(checkpoint / "onnx" / ONNX_INT8, graph)
    return folder
