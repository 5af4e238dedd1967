"""What must hold of the worker: how it starts, stops, is counted and is sized."""

import re
from collections.abc import Iterator

from k8s.checks.environment import settings_of
from k8s.checks.policy import Policy
from k8s.checks.render import WORKER, Manifests, Object

WHOLE_CPUS = re.compile(r"^[1-9][0-9]*$")


def lanes_are_the_requested_cpus(manifests: Manifests) -> Iterator[str]:
    """More threads than CPUs wait for one another; fewer leave paid CPUs idle."""
    container = manifests.worker_container
    request = str(container["resources"]["requests"]["cpu"])
    if not WHOLE_CPUS.match(request):
        yield f"the worker requests {request} CPUs: a scoring thread needs a whole one"
    wanted = {"containerName": "worker", "resource": "requests.cpu", "divisor": "1"}
    source = _variable(container, "RERANKER_BATCH__LANES").get("valueFrom", {})
    if source.get("resourceFieldRef") != wanted:
        yield "RERANKER_BATCH__LANES must be the worker's requests.cpu"
    memory = container["resources"]
    if memory["requests"]["memory"] != memory["limits"]["memory"]:
        yield "the worker's memory must be requested up to its limit"


def draining_fits_the_grace_period(manifests: Manifests) -> Iterator[str]:
    """SIGKILL in a transaction delays all readers by its time-out."""
    settings = settings_of(manifests)
    kafka = settings.kafka
    needed_s = (
        settings.drain_timeout_ms + kafka.transaction_timeout_ms + kafka.watchdog_margin_ms
    ) / 1000
    grace_s = manifests.worker_pod.get("terminationGracePeriodSeconds", 30)
    if grace_s <= needed_s:
        yield f"terminationGracePeriodSeconds is {grace_s}: draining may take {needed_s:.0f} s"
    if "preStop" in manifests.worker_container.get("lifecycle", {}):
        yield "a preStop hook only takes time from draining: nothing is routed to a worker"


def probes_ask_the_right_things(manifests: Manifests) -> Iterator[str]:
    """Alive is the age of the loop; start covers the load of the model."""
    container = manifests.worker_container
    wanted = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    for name, path in wanted.items():
        request = container.get(name, {}).get("httpGet", {})
        if request != {"path": path, "port": "http"}:
            yield f"{name} must get {path} from the port http"
    startup = container.get("startupProbe", {})
    if startup.get("periodSeconds", 10) * startup.get("failureThreshold", 3) < 120:
        yield "startupProbe gives less than two minutes to load the bundles"
    port = [each["containerPort"] for each in container.get("ports", []) if each["name"] == "http"]
    if port != [settings_of(manifests).http.port]:
        yield f"the port http is {port}, and RERANKER_HTTP__PORT is another"


def a_gpu_is_there_for_who_uses_it(manifests: Manifests) -> Iterator[str]:
    """A worker for GPUs needs one, and an image that can use it; others must not hold one."""
    container = manifests.worker_container
    wanted = settings_of(manifests).device == "cuda"
    gpus = container["resources"]["limits"].get("nvidia.com/gpu", "0")
    if gpus != ("1" if wanted else "0"):
        yield f"the worker has {gpus} GPUs, and RERANKER_DEVICE is {'cuda' if wanted else 'cpu'}"
    if container["image"].endswith("-gpu") != wanted:
        yield f"{container['image']} is not the image for RERANKER_DEVICE"


def the_autoscaler_owns_the_number(manifests: Manifests) -> Iterator[str]:
    """Otherwise every apply throws workers out, or two scalers fight."""
    if "replicas" in manifests.worker["spec"]:
        yield "spec.replicas of the worker is set: an apply would undo the autoscaler"
    scalers = [
        each["kind"]
        for each in manifests.of_kind("ScaledObject", "HorizontalPodAutoscaler")
        if each["spec"]["scaleTargetRef"]["name"] == WORKER
    ]
    if len(scalers) != 1:
        yield f"the worker must have one autoscaler, not {scalers}"


def disruptions_come_one_by_one(manifests: Manifests) -> Iterator[str]:
    """Drains of nodes take one worker at a time, and are never blocked."""
    labels = manifests.worker["spec"]["template"]["metadata"]["labels"]
    budgets = [
        each["spec"]
        for each in manifests.of_kind("PodDisruptionBudget")
        if each["spec"]["selector"]["matchLabels"].items() <= labels.items()
    ]
    if [budget.get("maxUnavailable") for budget in budgets] != [1]:
        yield "the worker needs one PodDisruptionBudget with maxUnavailable 1"
    if not manifests.worker_pod.get("topologySpreadConstraints"):
        yield "the worker's pods are not spread over nodes and zones"


def bundles_are_verified(manifests: Manifests) -> Iterator[str]:
    """The last init container refuses any other bundle than the one in MODEL_DIGEST."""
    last = (manifests.worker_pod.get("initContainers") or [{}])[-1]
    arguments = last.get("args", [])
    if last.get("image") != manifests.worker_container["image"] or "verify" not in arguments:
        yield "the last init container must verify the bundles, with the worker's image"
    kinds = ["model"]
    if _variable(manifests.worker_container, "RERANKER_INDEX_BUNDLE"):
        kinds.append("index")
    for kind in kinds:
        variable = f"{kind.upper()}_DIGEST"
        if f"--{kind}-digest=$({variable})" not in arguments:
            yield f"the init container verify does not check the {kind}'s digest"
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", manifests.values.get(variable, "")):
            yield f"{variable} is not a digest"


def bundles_are_pulled_by_digest(manifests: Manifests) -> Iterator[str]:
    """What lies at an address may change; what a digest names can't."""
    for container in manifests.worker_pod.get("initContainers", []):
        arguments = container.get("args", [])
        if "pull" not in arguments:
            continue
        name, variable = container["name"], f"{container['name'].upper()}_DIGEST"
        digits = manifests.values.get(variable, "").removeprefix("sha256:")
        if f"--digest=$({variable})" not in arguments:
            yield f"the init container {name} takes any bundle: it needs --digest=$({variable})"
        if not any(each.endswith(f"/{digits}") for each in arguments):
            yield f"the init container {name} does not pull from the folder of {variable}"


def old_and_new_run_side_by_side(manifests: Manifests) -> Iterator[str]:
    """A rolling update never has fewer workers than before, and one more at most."""
    strategy = manifests.worker["spec"].get("strategy", {})
    if strategy.get("type") != "RollingUpdate":
        yield "the worker must be updated by a rolling update"
    elif strategy.get("rollingUpdate") != {"maxSurge": 1, "maxUnavailable": 0}:
        yield "a rolling update must add one worker before it takes one away"


WORKER_POLICIES: tuple[Policy, ...] = (
    lanes_are_the_requested_cpus,
    draining_fits_the_grace_period,
    probes_ask_the_right_things,
    a_gpu_is_there_for_who_uses_it,
    the_autoscaler_owns_the_number,
    disruptions_come_one_by_one,
    bundles_are_verified,
    bundles_are_pulled_by_digest,
    old_and_new_run_side_by_side,
)


def _variable(container: Object, name: str) -> Object:
    found = [each for each in container.get("env", []) if each["name"] == name]
    return found[0] if found else {}
