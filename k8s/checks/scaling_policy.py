"""What must hold of the autoscaler, KEDA's or a plain one."""

from collections.abc import Iterator

from k8s.checks.environment import settings_of
from k8s.checks.policy import Policy
from k8s.checks.render import Manifests, Object

WINDOW_S = 300


def keda_reads_the_workers_lag(manifests: Manifests) -> Iterator[str]:
    """The scaler must look at the group, topic and brokers that the workers use."""
    kafka = settings_of(manifests).kafka
    for trigger in _triggers(manifests):
        metadata = trigger["metadata"]
        wanted = {
            "bootstrapServers": kafka.bootstrap_servers,
            "consumerGroup": kafka.group_id,
            "topic": kafka.topics.queries,
        }
        for name, value in wanted.items():
            if metadata.get(name) != value:
                yield f"KEDA's {name} is {metadata.get(name)!r}, and the workers' is {value!r}"
        if kafka.security_protocol != "PLAINTEXT" and metadata.get("tls") != "enable":
            yield "the workers use TLS, and KEDA does not"
        if kafka.sasl_mechanism is not None and (
            metadata.get("sasl") != kafka.sasl_mechanism.lower().replace("-sha-", "_sha")
            or "authenticationRef" not in trigger
        ):
            yield "the workers use SASL, and KEDA does not, or with another mechanism"


def keda_is_set_as_it_must_be(manifests: Manifests) -> Iterator[str]:
    """The fields of the trigger that decide whether it ever scales at all."""
    wanted = {
        "offsetResetPolicy": "earliest",
        "limitToPartitionsWithLag": "true",
        "allowIdleConsumers": "false",
        "scaleToZeroOnInvalidOffset": "false",
    }
    for trigger in _triggers(manifests):
        metadata = trigger["metadata"]
        unquoted = sorted(key for key, value in metadata.items() if not isinstance(value, str))
        if unquoted:
            yield f"KEDA takes strings only: quote {', '.join(unquoted)}"
        for name, value in wanted.items():
            if metadata.get(name) != value:
                yield f"KEDA's {name} must be {value!r}"
        if int(metadata.get("lagThreshold", 0)) < 1:
            yield "KEDA's lagThreshold must be at least 1"
        if int(metadata.get("activationLagThreshold", 0)) < int(manifests.values["PARTITIONS"]):
            yield "KEDA's activationLagThreshold must be the number of partitions"


def no_more_workers_than_partitions(manifests: Manifests) -> Iterator[str]:
    """A worker without a partition costs and does nothing; none at all never wakes up."""
    for least, most in _bounds(manifests):
        if least < 1:
            yield "the least number of workers must be 1: a group without offsets stays at 0"
        if not least <= most <= int(manifests.values["PARTITIONS"]):
            yield f"{least} to {most} workers don't fit {manifests.values['PARTITIONS']} partitions"


def workers_leave_slowly(manifests: Manifests) -> Iterator[str]:
    """Each that leaves moves partitions, and a burst often comes back."""
    for behavior in _behaviors(manifests):
        down = behavior.get("scaleDown", {})
        if down.get("stabilizationWindowSeconds", 0) < WINDOW_S:
            yield f"scaleDown must look back {WINDOW_S} s"
        if down.get("policies") != [{"type": "Pods", "value": 1, "periodSeconds": 60}]:
            yield "scaleDown must take one pod a minute"
        if behavior.get("scaleUp", {}).get("stabilizationWindowSeconds", 0) != 0:
            yield "scaleUp must not wait"


SCALING_POLICIES: tuple[Policy, ...] = (
    keda_reads_the_workers_lag,
    keda_is_set_as_it_must_be,
    no_more_workers_than_partitions,
    workers_leave_slowly,
)


def _triggers(manifests: Manifests) -> Iterator[Object]:
    for scaled in manifests.of_kind("ScaledObject"):
        yield from scaled["spec"]["triggers"]


def _bounds(manifests: Manifests) -> Iterator[tuple[int, int]]:
    for scaled in manifests.of_kind("ScaledObject"):
        yield scaled["spec"]["minReplicaCount"], scaled["spec"]["maxReplicaCount"]
    for scaler in manifests.of_kind("HorizontalPodAutoscaler"):
        yield scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]


def _behaviors(manifests: Manifests) -> Iterator[Object]:
    for scaled in manifests.of_kind("ScaledObject"):
        yield scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    for scaler in manifests.of_kind("HorizontalPodAutoscaler"):
        yield scaler["spec"]["behavior"]
