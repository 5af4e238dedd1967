"""Each policy is silent about the real manifests, and says what is wrong with changed ones."""

import copy
from typing import Any

import pytest

from k8s.checks import monitoring
from k8s.checks import scaling_policy as scaling
from k8s.checks.__main__ import POLICIES, check, invalid, main
from k8s.checks.policy import Policy
from k8s.checks.render import Manifests, RenderError, build, containers, overlays, variants
from tests.unit.k8s.policy_cases import (
    CASES,
    STORE_CASES,
    Change,
    alerts,
    main_container,
    pull,
)
from tests.unit.k8s.rendering import need, rendered


@pytest.mark.parametrize(("policy", "change", "says"), CASES)
def test_a_policy_finds_what_is_wrong(
    production: Manifests, policy: Policy, change: Change, says: str
) -> None:
    assert list(policy(production)) == []
    changed = Manifests("changed", copy.deepcopy(list(production.objects)))
    change(changed)
    assert any(says in problem for problem in policy(changed)), list(policy(changed))


@pytest.mark.parametrize(("policy", "change", "says"), STORE_CASES)
def test_a_policy_finds_what_is_wrong_with_a_store(
    store: Manifests, policy: Policy, change: Change, says: str
) -> None:
    test_a_policy_finds_what_is_wrong(store, policy, change, says)


def test_every_policy_has_a_case_that_it_finds() -> None:
    tested = {policy for policy, _, _ in [*CASES, *STORE_CASES]}
    # promtool has its own test below.
    assert tested == set(POLICIES) - {monitoring.failing_alerts}


@pytest.mark.parametrize("folder", [*overlays(), *variants()], ids=lambda folder: folder.name)
def test_everything_that_is_rendered_is_right(folder: Any) -> None:
    for tool in ("kustomize", "kubeconform", "promtool"):
        need(tool)
    missing: set[str] = set()
    text = build(folder)
    manifests = rendered(str(folder))
    assert check(manifests, missing) == []
    assert list(invalid(text)) == []
    assert not missing


def test_every_component_is_rendered_somewhere() -> None:
    used = "".join(
        path.read_text()
        for folder in [*overlays(), *variants()]
        for path in [folder / "kustomization.yaml"]
    )
    components = (overlays()[0].parents[1] / "components").iterdir()
    assert [each.name for each in components if f"components/{each.name}\n" not in used] == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("minReadySeconds: 10", "minReadySecond: 10"),
        ("  pollingInterval: 15", "  polingInterval: 15"),
        ("- port: http\n", "- prot: http\n"),
        ("automountServiceAccountToken: false", 'automountServiceAccountToken: "no"'),
        ("kind: PodDisruptionBudget", "kind: PodDisruptionBugdet"),
    ],
)
def test_kubeconform_finds_a_wrong_field(before: str, after: str) -> None:
    need("kustomize")
    need("kubeconform")
    text = build(overlays()[1])
    assert before in text
    assert list(invalid(text)) == []
    assert list(invalid(text.replace(before, after, 1))) != []


def test_promtool_finds_an_alert_that_does_not_fire(production: Manifests) -> None:
    need("promtool")
    assert list(monitoring.failing_alerts(production)) == []
    changed = Manifests("changed", copy.deepcopy(list(production.objects)))
    alerts(changed)[0]["expr"] = alerts(changed)[0]["expr"].replace("> 5", "> 500")
    assert any("KafkaRerankerLate" in each for each in monitoring.failing_alerts(changed))
    alerts(changed)[0]["expr"] = "sum by ("
    assert any("check rules" in each for each in monitoring.failing_alerts(changed))
    alerts(changed).append({**alerts(production)[0], "alert": "New"})
    assert any("New: no case" in each for each in monitoring.failing_alerts(changed))


def test_the_plain_autoscaler_is_held_to_the_same(plain: Manifests) -> None:
    changed = Manifests("changed", copy.deepcopy(list(plain.objects)))
    spec = changed.of_kind("HorizontalPodAutoscaler")[0]["spec"]
    spec["maxReplicas"] = 13
    spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] = 10
    metric = spec["metrics"][0]["external"]["metric"]
    metric["selector"]["matchLabels"] = {"queue": "rerank.queries"}
    unknown = list(monitoring.unknown_metrics(changed))
    assert any("kafka_reranker_lag_records has no label queue" in each for each in unknown)
    metric["name"] = "kafka_reranker_lag"
    assert any("13 workers" in each for each in scaling.no_more_workers_than_partitions(changed))
    assert any("look back" in each for each in scaling.workers_leave_slowly(changed))
    assert any("kafka_reranker_lag" in each for each in monitoring.unknown_metrics(changed))


def test_a_broker_may_look_itself_up_and_reach_itself() -> None:
    """It ends transactions under the name that it gives to everybody."""
    dev = rendered("overlays/dev")
    (policy,) = (
        each["spec"] for each in dev.of_kind("NetworkPolicy") if each["metadata"]["name"] == "kafka"
    )
    ports = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    assert ports == {53, 9092}


def test_only_init_containers_have_the_credentials_of_the_store(store: Manifests) -> None:
    having = [
        container["name"]
        for container in containers(store.worker)
        if "kafka-reranker-store" in str(container)
    ]
    assert having == ["index", "model"]


def test_a_digest_names_the_folder_in_the_store_and_what_is_verified(store: Manifests) -> None:
    digits = store.values["MODEL_DIGEST"].removeprefix("sha256:")
    assert pull(store)["args"][1] == f"$(BUNDLE_STORE)/{digits}"
    assert pull(store)["image"] == main_container(store)["image"]


def test_a_folder_that_does_not_build_is_a_problem(tmp_path: Any) -> None:
    need("kustomize")
    (tmp_path / "kustomization.yaml").write_text("resources: [none.yaml]\n")
    with pytest.raises(RenderError, match=r"none\.yaml"):
        build(tmp_path)


def test_a_missing_program_is_said_and_fails_only_in_ci(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    need("kustomize")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CI", raising=False)
    assert main() == 0
    assert (
        "not checked: promtool is not here: apt-get install prometheus" in capsys.readouterr().err
    )
    monkeypatch.setenv("CI", "true")
    assert main() == 1
