"""One round of the loop.

1. The real worker serves the model that is to be improved.
2. Users ask, look and click; impressions and clicks are on the feedback topic.
3. collect → label → train → gate, and promote where the gate lets the new model through.
4. A worker with the promoted model answers the held-out questions.
"""

import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from demo.asking import Asking, asking
from demo.bundles import Made
from demo.loop.setting import MADE, Bundles, Setting
from demo.loop.steps import Steps
from demo.loop.users import Taste, Users
from demo.loop.world import World, write_held_out
from demo.services import TOPICS, Services, services
from demo.worker_process import running_worker
from export.bars import progress
from export.measures import measure
from training.kustomize import NAME, PLACEHOLDER, read_digest
from training.registry import Registry
from training.run_folder import digest_of, write_json


@dataclass(frozen=True)
class Outcome:
    """What a round came to. `served` are the figures of the promoted model's own worker."""

    lists: int
    clicks: int
    labels: dict[str, Any]
    dev: dict[str, Any]
    report: dict[str, Any]
    serving: str | None
    served: dict[str, float] | None
    seconds: dict[str, float]

    @property
    def passed(self) -> bool:
        """Whether the gate let the new model through."""
        return bool(self.report["verdict"] == "pass")


@dataclass
class _Clock:
    laps: dict[str, float] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self.since, 1)
        self.since = now


@dataclass(frozen=True)
class Round:
    """A round in a folder of its own, which is emptied first.

    With `go_on`, what an earlier process finished stays: the users' clicks, and each step that
    was made from the same.
    """

    setting: Setting
    world: World
    bundles: Bundles
    folder: Path
    console: Console
    go_on: bool = False

    def play(self, taste: Taste) -> Outcome:
        """Play it with users of one taste; raises DemoError."""
        steps = Steps(self.folder / "plan.yaml", self.folder / "run", self.console)
        clock = _Clock()
        lists, clicks = self._collected(taste, steps)
        clock.lap("users and collect")
        labels = steps.call("label")
        clock.lap("label")
        trained = steps.call("train")
        clock.lap("train")
        report = steps.call("gate", may_refuse=True)
        clock.lap("gate")
        served = None
        if report["verdict"] == "pass":
            steps.call("promote")
            served = self._serve()
            clock.lap("serve")
        serving = read_digest(self.folder / "values.env")
        return Outcome(lists, clicks, labels, trained["dev"], report, serving, served, clock.laps)

    def _collected(self, taste: Taste, steps: Steps) -> tuple[int, int]:
        """Return how many lists were shown and clicked on; what they left is in the run's folder.

        `visited.json`, written last, says what it came from.
        """
        note, wanted = self.folder / "visited.json", self.inputs(taste)
        found = json.loads(note.read_bytes()) if self.go_on and note.is_file() else {}
        if found.get("inputs") == wanted:
            self._write_plan(None)
            return found["lists"], found["clicks"]
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        with services(None, None) as running:
            lists, clicks = self._visit(taste, running)
            self._write_plan(running)
            steps.call("collect")
        write_json(note, {"inputs": wanted, "lists": lists, "clicks": clicks})
        return lists, clicks

    def inputs(self, taste: Taste) -> dict[str, Any]:
        """Return what users' clicks depend on."""
        setting, asked = self.setting, self.world.asked
        judgements = self.world.collection.judgements
        return {
            "made": json.loads((setting.build / MADE).read_bytes()),
            "users": [repr(taste), setting.top_k, setting.shown, setting.sessions, setting.eta],
            "questions": digest_of(asked),
            "judgements": digest_of(
                {question_id: judgements[question_id] for question_id in asked}
            ),
        }

    def _visit(self, taste: Taste, running: Services) -> tuple[int, int]:
        setting = self.setting
        users = Users(taste, setting.sessions, setting.eta, setting.seed)
        questions = len(self.world.asked) * setting.sessions
        with (
            running_worker(self.bundles.made, running, self.folder / "worker.log") as worker,
            asking(running, worker.check, setting.top_k, setting.shown) as client,
            progress(f"{questions:,} questions of users", questions) as advance,
        ):
            return users.visit(client, self.world, advance)

    def _write_plan(self, running: Services | None) -> None:
        """Write the plan, of which `collect` reads where the topic is, while there is one."""
        setting = self.setting
        values = self.folder / "values.env"
        values.write_text(f"{NAME}={PLACEHOLDER}\n", encoding="utf-8")
        kafka = running and {
            "bootstrap_servers": running.kafka,
            "topic": TOPICS.feedback,
            "group_id": "kafka-reranker-loop",
            "embedded": running.embedded_kafka,
        }
        plan = {
            "collect": {"kafka": kafka},
            "label": {
                "index_bundle": str(self.bundles.made.index),
                "split": {"dev": 0.2, "test": 0.0},
                **setting.label,
            },
            "train": {
                "base": str(setting.build / "start"),
                "max_tokens": setting.max_tokens,
                "fuse": setting.fuse,
                **setting.train,
            },
            "gate": {
                "held_out": str(write_held_out(self.world, self.folder / "held-out")),
                "index_bundle": str(self.bundles.held_out_index),
                "current": str(self.bundles.made.model),
                "precision": setting.precision,
                "top_k": setting.top_k,
                **setting.gate,
            },
            "promote": {
                "registry": str(self.folder / "models"),
                "kustomize": str(values),
                "name": "clicked",
            },
        }
        file = self.folder / "plan.yaml"
        file.write_text(yaml.safe_dump(plan, sort_keys=False), encoding="utf-8")

    def _serve(self) -> dict[str, float]:
        """Return the figures of lists that a worker with the promoted model published."""
        registry = Registry(self.folder / "models")
        digest = read_digest(self.folder / "values.env")
        assert digest is not None, "promote wrote it"
        corpus = self.world.held_out_of.corpus
        promoted = Made(corpus, registry.bundle(digest), self.bundles.held_out_index)
        depth = self.setting.top_k
        with (
            services(None, None) as running,
            running_worker(promoted, running, self.folder / "promoted-worker.log") as worker,
            asking(running, worker.check, depth, depth) as client,
        ):
            return _ask_held_out(client, self.world)


def _ask_held_out(client: Asking, world: World) -> dict[str, float]:
    answers = client.ask(list(world.held_out.values()))
    rankings = {
        question_id: [entry.doc_id for entry in answer.ranked.ranking]
        for question_id, answer in zip(world.held_out, answers, strict=True)
    }
    judgements = world.held_out_of.judgements
    judged = {question_id: judgements[question_id] for question_id in world.held_out}
    found = measure(judged, rankings)
    return {name: round(found[name], 4) for name in ("NDCG@10", "MRR@10", "MAP")}
