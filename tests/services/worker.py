"""The worker as a process, as an operator runs it: settings in the environment, signals, HTTP."""

import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.services.process import ServiceFailed, ServiceProcess, await_condition, free_ports
from tests.services.topics import Topics

REPOSITORY = Path(__file__).resolve().parents[2]
READY_TIMEOUT_S = 240.0
# What a worker's own port needs for an answer on a machine that has no time for it.
ANSWER_TIMEOUT_S = 30
# By default Redis has 100 ms, which a busy machine outlasts: a score that is there is then no hit.
PATIENT_REDIS = {"REDIS__TIMEOUT_MS": "10000"}


class WorkerProcess:
    """`python -m worker` on the topics of a test. `settings` are environment variables."""

    def __init__(self, directory: Path, name: str, settings: Mapping[str, str]) -> None:
        self.port = free_ports(1)[0]
        variables = {
            "RERANKER_HTTP__PORT": str(self.port),
            "RERANKER_HTTP__HOST": "127.0.0.1",
            "RERANKER_LOG__FORMAT": "json",
            "PYTHONPATH": str(REPOSITORY),
            **settings,
        }
        command = ["env", *(f"{key}={value}" for key, value in variables.items())]
        self.process = ServiceProcess(name, [*command, sys.executable, "-m", "worker"], directory)

    def start(self) -> "WorkerProcess":
        """Start, and return once `/readyz` says yes."""
        self.process.start()
        await_condition(
            lambda: not self.process.alive or self.get("/readyz") == 200,
            READY_TIMEOUT_S,
            lambda: self.process.describe("is not ready"),
        )
        if not self.process.alive:
            raise ServiceFailed(self.process.describe("ended at start"))
        return self

    def get(self, path: str) -> int | None:
        """Return the status of a path, None when nobody answers."""
        try:
            with self._ask(path) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return None

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples with these labels."""
        lines = self.metrics().splitlines()
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if line.split("{")[0].split(" ")[0] == name and all(part in line for part in wanted)
        )

    def metrics(self) -> str:
        """Return the scrape page."""
        with self._ask("/metrics") as answer:
            page: bytes = answer.read()
        return page.decode()

    def _ask(self, path: str) -> Any:
        url = f"http://127.0.0.1:{self.port}{path}"
        return urllib.request.urlopen(url, timeout=ANSWER_TIMEOUT_S)

    def log(self) -> str:
        """Return all that the worker has written."""
        return self.process.log_path.read_text()


def await_metric(worker: WorkerProcess, value: float, name: str, **labels: str) -> None:
    """Return once a metric has this value: a worker counts what it has committed already.

    Raises:
        ServiceFailed: it has another one for long.
    """
    await_condition(
        lambda: worker.metric(name, **labels) == value,
        ANSWER_TIMEOUT_S,
        lambda: f"{name} is {worker.metric(name, **labels):g}, not {value:g}",
    )


def settings_for(
    bootstrap_servers: str,
    topics: Topics,
    model_bundle: Path,
    index_bundle: Path | None = None,
    redis_url: str = "memory://",
    **more: str,
) -> dict[str, str]:
    """Return the environment of a worker; `more` are further variables without the prefix."""
    settings = {
        "KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers,
        "KAFKA__GROUP_ID": topics.group_id,
        "KAFKA__TOPICS__QUERIES": topics.queries,
        "KAFKA__TOPICS__RESULTS": topics.results,
        "KAFKA__TOPICS__FEEDBACK": topics.feedback,
        "KAFKA__TOPICS__DEAD_LETTERS": topics.dead_letters,
        "REDIS__URL": redis_url,
        "MODEL_BUNDLE": str(model_bundle),
        **({} if index_bundle is None else {"INDEX_BUNDLE": str(index_bundle)}),
        **more,
    }
    return {f"RERANKER_{key}": value for key, value in settings.items()}
