"""Alerts and the dashboard against the metrics that the worker makes."""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from k8s.checks import tools
from k8s.checks.render import K8S, Manifests, Object
from schemas.events import IndexRef, ModelRef
from worker.metrics import PREFIX, Metrics
from worker.records import Partition

CASES = K8S / "components/monitoring/alerts-test.yaml"
NAME = re.compile(rf"\b{PREFIX}_[a-z0-9_]+\b")
LABELS = re.compile(rf"\b({PREFIX}_[a-z0-9_]+)\{{([^}}]*)\}}")
LABEL = re.compile(r"([a-zA-Z_]+)\s*(?:=~|!~|!=|=)")
# Labels that Prometheus adds to what it scrapes.
SCRAPED = {"namespace", "pod", "job", "instance", "container"}


def metrics() -> dict[str, set[str]]:
    """Return the name of every series that a worker has, with its labels."""
    digest = "sha256:" + "0" * 64
    made = Metrics(
        ModelRef(name="m", digest=digest, precision="int8"), IndexRef(name="i", digest=digest)
    )
    # A metric with labels has no series before it is used.
    for metric in vars(made).values():
        names = getattr(metric, "_labelnames", ())
        if names:
            metric.labels(*names)
    made.set_lag({Partition("t", 0): 1})
    series: dict[str, set[str]] = {}
    for family in made.registry.collect():
        for sample in family.samples:
            series.setdefault(sample.name, set()).update(sample.labels)
    return {name: labels for name, labels in series.items() if not name.endswith("_created")}


def expressions(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Yield where and what of every query in alerts, dashboards and the plain autoscaler."""
    for rule in _rules(manifests):
        yield f"alert {rule['alert']}", rule["expr"]
    for config_map in manifests.of_kind("ConfigMap"):
        if "grafana_dashboard" in config_map["metadata"].get("labels", {}):
            for name, text in config_map["data"].items():
                yield from ((f"dashboard {name}", query) for query in _queries(json.loads(text)))
    for scaler in manifests.of_kind("HorizontalPodAutoscaler"):
        for metric in scaler["spec"]["metrics"]:
            wanted = metric["external"]["metric"]
            labels = wanted.get("selector", {}).get("matchLabels", {})
            selector = ",".join(f'{name}="{value}"' for name, value in labels.items())
            yield "HorizontalPodAutoscaler", f"{wanted['name']}{{{selector}}}"


def unknown_metrics(manifests: Manifests) -> Iterator[str]:
    """Yield a line for each metric or label that no worker has."""
    known = metrics()
    for where, query in expressions(manifests):
        for name in NAME.findall(query):
            if name not in known:
                yield f"{where}: no worker has the metric {name}"
        for name, selector in LABELS.findall(query):
            unknown = set(LABEL.findall(selector)) - known.get(name, set()) - SCRAPED
            for label in sorted(unknown):
                yield f"{where}: {name} has no label {label}"


def failing_alerts(manifests: Manifests, cases: Path = CASES) -> Iterator[str]:
    """Yield what promtool says against the rules and their tests; raises ToolMissingError."""
    for rule in manifests.of_kind("PrometheusRule"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]))
            tests = promtool_tests(yaml.safe_load(cases.read_text()), list(_rules(manifests)))
            (folder / "tests.yaml").write_text(yaml.safe_dump(tests))
            for verb, file in (("check", "rules.yaml"), ("test", "tests.yaml")):
                done = tools.run("promtool", verb, "rules", folder / file)
                if done.returncode != 0:
                    yield f"promtool {verb} rules: {(done.stdout + done.stderr).strip()}"
    fired = {name for case in yaml.safe_load(cases.read_text())["tests"] for name in case["fires"]}
    for rule in _rules(manifests):
        if rule["alert"] not in fired:
            yield f"alert {rule['alert']}: no case in {cases.name} sets it off"


def promtool_tests(cases: Object, rules: list[Object]) -> Object:
    """Return the cases as promtool takes them: each alert in each, firing or silent."""
    return {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": cases["evaluation_interval"],
        "tests": [
            {
                "interval": case["interval"],
                "input_series": case["input_series"],
                "alert_rule_test": [_expectation(case, rule) for rule in rules],
            }
            for case in cases["tests"]
        ],
    }


def _expectation(case: Object, rule: Object) -> Object:
    expected: Object = {"eval_time": case["at"], "alertname": rule["alert"]}
    if rule["alert"] in case["fires"]:
        labels = {**rule["labels"], **case["fires"][rule["alert"]]}
        expected["exp_alerts"] = [{"exp_labels": labels, "exp_annotations": rule["annotations"]}]
    return expected


def _rules(manifests: Manifests) -> Iterator[Object]:
    for item in manifests.of_kind("PrometheusRule"):
        for group in item["spec"]["groups"]:
            yield from group["rules"]


def _queries(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _queries(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key in ("expr", "query") and isinstance(each, str):
                yield each
            else:
                yield from _queries(each)
