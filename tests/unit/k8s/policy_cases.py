"""What can be wrong with manifests: for each policy a change that it has to find, and its words."""

from collections.abc import Callable
from typing import Any

from k8s.checks import environment, images, monitoring
from k8s.checks import policy as pods
from k8s.checks import scaling_policy as scaling
from k8s.checks import worker_policy as worker
from k8s.checks.policy import Policy
from k8s.checks.render import Manifests

Change = Callable[[Manifests], None]


def scaled(manifests: Manifests) -> Any:
    return manifests.of_kind("ScaledObject")[0]["spec"]


def trigger(manifests: Manifests) -> Any:
    return scaled(manifests)["triggers"][0]["metadata"]


def behavior(manifests: Manifests) -> Any:
    return scaled(manifests)["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]


def pod(manifests: Manifests) -> Any:
    return manifests.worker_pod


def main_container(manifests: Manifests) -> Any:
    return manifests.worker_container


def security(manifests: Manifests) -> Any:
    return main_container(manifests)["securityContext"]


def put(of: Callable[[Manifests], Any], **fields: Any) -> Change:
    return lambda manifests: of(manifests).update(fields)


def drop(of: Callable[[Manifests], Any], name: str) -> Change:
    return lambda manifests: of(manifests).pop(name)


def variable(name: str, value: str) -> Change:
    def change(manifests: Manifests) -> None:
        env = main_container(manifests)["env"]
        env[:] = [each for each in env if each["name"] != name]
        env.append({"name": name, "value": value})

    return change


def add(kind: str, **fields: Any) -> Change:
    def change(manifests: Manifests) -> None:
        manifests.objects.append({"kind": kind, "metadata": {"name": "new"}, **fields})  # type: ignore[attr-defined]

    return change


def remove(kind: str) -> Change:
    def change(manifests: Manifests) -> None:
        kept = [each for each in manifests.objects if each["kind"] != kind]
        manifests.objects[:] = kept  # type: ignore[index]

    return change


CASES: list[tuple[Policy, Change, str]] = [
    (
        pods.images_are_pinned,
        put(main_container, image="ghcr.io/kafka-reranker/worker:latest"),
        "not pinned",
    ),
    (pods.images_are_pinned, put(main_container, image="worker"), "not pinned"),
    (pods.images_are_pinned, put(main_container, image="host:5000/worker"), "not pinned"),
    (
        pods.resources_are_bounded,
        lambda m: main_container(m)["resources"]["limits"].pop("memory"),
        "limits.memory is not set",
    ),
    (pods.resources_are_bounded, drop(main_container, "resources"), "requests.cpu is not set"),
    (pods.pods_are_restricted, put(pod, hostNetwork=True), "hostNetwork"),
    (
        pods.pods_are_restricted,
        lambda m: pod(m)["securityContext"].pop("runAsNonRoot"),
        "not root",
    ),
    (
        pods.pods_are_restricted,
        lambda m: pod(m)["securityContext"].pop("seccompProfile"),
        "seccompProfile",
    ),
    (
        pods.pods_are_restricted,
        lambda m: pod(m)["volumes"].append({"name": "etc", "hostPath": {"path": "/etc"}}),
        "volume etc",
    ),
    (
        pods.containers_are_restricted,
        put(security, allowPrivilegeEscalation=True),
        "privileges could grow",
    ),
    (pods.containers_are_restricted, put(security, privileged=True), "privileges could grow"),
    (pods.containers_are_restricted, drop(security, "capabilities"), "capabilities"),
    (pods.containers_are_restricted, put(security, runAsUser=0), "not root"),
    (
        pods.containers_are_restricted,
        lambda m: main_container(m)["ports"][0].update(hostPort=80),
        "hostPort",
    ),
    (pods.roots_are_read_only, drop(security, "readOnlyRootFilesystem"), "readOnlyRootFilesystem"),
    (pods.no_pod_has_a_token, drop(pod, "automountServiceAccountToken"), "must be false"),
    (pods.no_pod_has_a_token, put(pod, enableServiceLinks=True), "enableServiceLinks"),
    (
        pods.no_pod_has_a_token,
        lambda m: m.of_kind("ServiceAccount")[0].pop("automountServiceAccountToken"),
        "must not mount",
    ),
    (pods.no_secret_is_written_down, add("Secret", data={}), "Secret/new"),
    (
        pods.namespaces_enforce_the_standard,
        lambda m: m.of_kind("Namespace")[0]["metadata"].pop("labels"),
        "restricted",
    ),
    (
        pods.config_maps_exist,
        lambda m: main_container(m)["envFrom"][0]["configMapRef"].update(name="other"),
        "no ConfigMap other",
    ),
    (
        pods.config_maps_exist,
        lambda m: pod(m)["initContainers"][-1]["env"][0]["valueFrom"]["configMapKeyRef"].update(
            key="MODEL"
        ),
        "has no key MODEL",
    ),
    (
        pods.traffic_is_restricted,
        lambda m: m.worker["spec"]["template"]["metadata"]["labels"].clear(),
        "no NetworkPolicy",
    ),
    (
        worker.lanes_are_the_requested_cpus,
        lambda m: main_container(m)["resources"]["requests"].update(cpu="1500m"),
        "a whole one",
    ),
    (
        worker.lanes_are_the_requested_cpus,
        variable("RERANKER_BATCH__LANES", "8"),
        "must be the worker's requests.cpu",
    ),
    (
        worker.lanes_are_the_requested_cpus,
        lambda m: main_container(m)["resources"]["requests"].update(memory="1Mi"),
        "memory",
    ),
    (
        worker.draining_fits_the_grace_period,
        put(pod, terminationGracePeriodSeconds=30),
        "draining may take 33 s",
    ),
    (
        worker.draining_fits_the_grace_period,
        variable("RERANKER_DRAIN_TIMEOUT_MS", "60000"),
        "draining may take 73 s",
    ),
    (
        worker.draining_fits_the_grace_period,
        put(main_container, lifecycle={"preStop": {"sleep": {"seconds": 5}}}),
        "preStop",
    ),
    (
        worker.probes_ask_the_right_things,
        lambda m: main_container(m)["livenessProbe"]["httpGet"].update(path="/readyz"),
        "livenessProbe must get /livez",
    ),
    (worker.probes_ask_the_right_things, drop(main_container, "startupProbe"), "startupProbe"),
    (
        worker.probes_ask_the_right_things,
        lambda m: main_container(m)["startupProbe"].update(failureThreshold=3),
        "two minutes",
    ),
    (
        worker.probes_ask_the_right_things,
        variable("RERANKER_HTTP__PORT", "9000"),
        "RERANKER_HTTP__PORT",
    ),
    (
        worker.a_gpu_is_there_for_who_uses_it,
        variable("RERANKER_DEVICE", "cuda"),
        "0 GPUs, and RERANKER_DEVICE is cuda",
    ),
    (
        worker.a_gpu_is_there_for_who_uses_it,
        lambda m: main_container(m)["resources"]["limits"].update({"nvidia.com/gpu": "1"}),
        "1 GPUs, and RERANKER_DEVICE is cpu",
    ),
    (
        worker.a_gpu_is_there_for_who_uses_it,
        put(main_container, image="ghcr.io/kafka-reranker/worker:0.1.0-gpu"),
        "not the image for RERANKER_DEVICE",
    ),
    (
        worker.the_autoscaler_owns_the_number,
        lambda m: m.worker["spec"].update(replicas=3),
        "spec.replicas",
    ),
    (worker.the_autoscaler_owns_the_number, remove("ScaledObject"), "one autoscaler"),
    (
        worker.the_autoscaler_owns_the_number,
        add("HorizontalPodAutoscaler", spec={"scaleTargetRef": {"name": "kafka-reranker"}}),
        "one autoscaler",
    ),
    (worker.disruptions_come_one_by_one, remove("PodDisruptionBudget"), "PodDisruptionBudget"),
    (
        worker.disruptions_come_one_by_one,
        drop(pod, "topologySpreadConstraints"),
        "not spread",
    ),
    (
        worker.bundles_are_verified,
        lambda m: pod(m)["initContainers"].pop(),
        "must verify",
    ),
    (
        worker.bundles_are_verified,
        lambda m: pod(m)["initContainers"][-1]["args"].remove("--index-digest=$(INDEX_DIGEST)"),
        "the index's digest",
    ),
    (
        worker.bundles_are_verified,
        lambda m: m.values.update(MODEL_DIGEST="sha256:12"),
        "MODEL_DIGEST is not a digest",
    ),
    (
        worker.old_and_new_run_side_by_side,
        lambda m: m.worker["spec"].update(strategy={"type": "Recreate"}),
        "rolling update",
    ),
    (
        worker.old_and_new_run_side_by_side,
        lambda m: m.worker["spec"]["strategy"]["rollingUpdate"].update(maxUnavailable=1),
        "before it takes one away",
    ),
    (scaling.keda_reads_the_workers_lag, put(trigger, topic="other"), "'other'"),
    (
        scaling.keda_reads_the_workers_lag,
        variable("RERANKER_KAFKA__GROUP_ID", "mine"),
        "the workers' is 'mine'",
    ),
    (scaling.keda_reads_the_workers_lag, drop(trigger, "tls"), "TLS"),
    (scaling.keda_reads_the_workers_lag, put(trigger, sasl="plaintext"), "SASL"),
    (scaling.keda_is_set_as_it_must_be, put(trigger, lagThreshold=20), "quote lagThreshold"),
    (
        scaling.keda_is_set_as_it_must_be,
        put(trigger, offsetResetPolicy="latest"),
        "must be 'earliest'",
    ),
    (
        scaling.keda_is_set_as_it_must_be,
        put(trigger, limitToPartitionsWithLag="false"),
        "limitToPartitionsWithLag",
    ),
    (scaling.keda_is_set_as_it_must_be, put(trigger, lagThreshold="0"), "at least 1"),
    (scaling.keda_is_set_as_it_must_be, put(trigger, activationLagThreshold="0"), "partitions"),
    (scaling.no_more_workers_than_partitions, put(scaled, minReplicaCount=0), "must be 1"),
    (scaling.no_more_workers_than_partitions, put(scaled, maxReplicaCount=13), "12 partitions"),
    (
        scaling.workers_leave_slowly,
        lambda m: behavior(m)["scaleDown"].update(stabilizationWindowSeconds=0),
        "look back 300 s",
    ),
    (
        scaling.workers_leave_slowly,
        lambda m: behavior(m)["scaleDown"]["policies"][0].update(value=10),
        "one pod a minute",
    ),
    (
        scaling.workers_leave_slowly,
        lambda m: behavior(m)["scaleUp"].update(stabilizationWindowSeconds=60),
        "must not wait",
    ),
    (
        environment.unknown_variables,
        variable("RERANKER_KAFKA__GROUP", "x"),
        "RERANKER_KAFKA__GROUP is no setting",
    ),
    (environment.unknown_variables, variable("RERANKER_MODEL", "x"), "is no setting"),
    (
        environment.refused_variables,
        variable("RERANKER_KAFKA__DELIVERY_TIMEOUT_MS", "1"),
        "setting kafka",
    ),
    (
        environment.refused_variables,
        variable("RERANKER_LOG__LEVEL", "loud"),
        "setting log.level",
    ),
    (
        images.images_are_ours,
        put(main_container, image="ghcr.io/kafka-reranker/worker:9.9.9"),
        "the version is",
    ),
    (
        images.images_are_ours,
        put(main_container, image="ghcr.io/kafka-reranker/reranker:0.1.0"),
        "no target 'reranker'",
    ),
    (
        images.images_are_ours,
        lambda m: m.values.update(MODEL_DIGEST="sha256:" + "f" * 64),
        "is not the model",
    ),
    (
        images.the_user_is_the_images,
        lambda m: pod(m)["securityContext"].update(runAsUser=1000),
        "10001",
    ),
    (
        monitoring.unknown_metrics,
        lambda m: alerts(m)[0].update(expr="rate(kafka_reranker_answers[5m])"),
        "no worker has the metric kafka_reranker_answers",
    ),
    (
        monitoring.unknown_metrics,
        lambda m: alerts(m)[0].update(expr='kafka_reranker_answers_total{level="full"}'),
        "has no label level",
    ),
    (
        monitoring.unknown_metrics,
        lambda m: dashboard(m).update(x='{"panels": [{"expr": "kafka_reranker_tokens"}]}'),
        "dashboard x: no worker has the metric kafka_reranker_tokens",
    ),
]


def pull(manifests: Manifests) -> Any:
    return next(each for each in pod(manifests)["initContainers"] if each["name"] == "model")


STORE_CASES: list[tuple[Policy, Change, str]] = [
    (
        worker.bundles_are_pulled_by_digest,
        lambda m: pull(m)["args"].remove("--digest=$(MODEL_DIGEST)"),
        "model takes any bundle",
    ),
    (
        worker.bundles_are_pulled_by_digest,
        lambda m: pull(m)["args"].__setitem__(1, "s3://bundles/newest"),
        "model does not pull from the folder of MODEL_DIGEST",
    ),
    (
        worker.bundles_are_verified,
        lambda m: pod(m)["initContainers"].pop(),
        "must verify",
    ),
    (
        pods.traffic_is_restricted,
        lambda m: m.of_kind("Job")[0]["spec"]["template"]["metadata"]["labels"].clear(),
        "Job/kafka-reranker-topics: no NetworkPolicy",
    ),
]


def alerts(manifests: Manifests) -> Any:
    return manifests.of_kind("PrometheusRule")[0]["spec"]["groups"][0]["rules"]


def dashboard(manifests: Manifests) -> Any:
    return manifests.get("ConfigMap", "kafka-reranker-dashboard")["data"]  # type: ignore[index]
