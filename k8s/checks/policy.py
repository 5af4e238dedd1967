"""What must hold of every pod, whatever runs in it."""

from collections.abc import Callable, Iterator

from k8s.checks.render import POD_KINDS, Manifests, Object, containers, pod_spec

# A policy yields one line for each thing that is wrong.
Policy = Callable[[Manifests], Iterator[str]]

VOLUMES = {"configMap", "secret", "emptyDir", "persistentVolumeClaim", "projected"}
RESOURCES = ("cpu", "memory", "ephemeral-storage")


def images_are_pinned(manifests: Manifests) -> Iterator[str]:
    """A tag that moves would run another program after a restart."""
    for where, container in _all_containers(manifests):
        image = container["image"]
        name, _, tag = image.rpartition(":")
        if "@sha256:" not in image and (not name or "/" in tag or tag in ("latest", "main")):
            yield f"{where}: image {image} is not pinned to a version"


def resources_are_bounded(manifests: Manifests) -> Iterator[str]:
    """Without limits one pod takes a node down; memory that is not requested is not there."""
    for where, container in _all_containers(manifests):
        resources = container.get("resources", {})
        for part in ("requests", "limits"):
            for resource in RESOURCES:
                if resource not in resources.get(part, {}):
                    yield f"{where}: resources.{part}.{resource} is not set"


def pods_are_restricted(manifests: Manifests) -> Iterator[str]:
    """The Pod Security Standard `restricted`, as far as it is about pods."""
    for where, item in _workloads(manifests):
        spec = pod_spec(item)
        security = spec.get("securityContext", {})
        if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
            yield f"{where}: must run as a user that is not root"
        if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{where}: seccompProfile must be RuntimeDefault"
        for name in ("hostNetwork", "hostPID", "hostIPC"):
            if spec.get(name):
                yield f"{where}: {name} is not allowed"
        for volume in spec.get("volumes", []):
            if not VOLUMES & set(volume):
                yield f"{where}: volume {volume['name']} is of a kind that is not allowed"


def containers_are_restricted(manifests: Manifests) -> Iterator[str]:
    """The Pod Security Standard `restricted`, as far as it is about containers."""
    for where, container in _all_containers(manifests):
        security = container.get("securityContext", {})
        if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
            yield f"{where}: privileges could grow"
        if security.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{where}: capabilities must be dropped, all of them"
        if security.get("runAsUser") == 0 or security.get("runAsNonRoot") is False:
            yield f"{where}: must run as a user that is not root"
        if any("hostPort" in port for port in container.get("ports", [])):
            yield f"{where}: hostPort is not allowed"


def roots_are_read_only(manifests: Manifests) -> Iterator[str]:
    """What can't be written can't be changed by an intruder."""
    for where, container in _all_containers(manifests):
        if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            yield f"{where}: readOnlyRootFilesystem must be true"


def no_pod_has_a_token(manifests: Manifests) -> Iterator[str]:
    """Nothing here speaks to the API server."""
    for where, item in _workloads(manifests):
        if pod_spec(item).get("automountServiceAccountToken") is not False:
            yield f"{where}: automountServiceAccountToken must be false"
        if pod_spec(item).get("enableServiceLinks") is not False:
            yield f"{where}: enableServiceLinks must be false"
    for account in manifests.of_kind("ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount/{account['metadata']['name']}: must not mount its token"


def no_secret_is_written_down(manifests: Manifests) -> Iterator[str]:
    """Secrets are made outside of this repository."""
    for secret in manifests.of_kind("Secret"):
        yield f"Secret/{secret['metadata']['name']}: secrets don't belong into manifests"


def namespaces_enforce_the_standard(manifests: Manifests) -> Iterator[str]:
    """The cluster itself refuses what slips through here."""
    for namespace in manifests.of_kind("Namespace"):
        labels = namespace["metadata"].get("labels", {})
        if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"Namespace/{namespace['metadata']['name']}: must enforce `restricted`"


def config_maps_exist(manifests: Manifests) -> Iterator[str]:
    """A name that kustomize didn't find stays without its suffix, and the pod never starts."""
    known = {each["metadata"]["name"]: each for each in manifests.of_kind("ConfigMap")}
    for where, item in _workloads(manifests):
        for name, key in _config_maps(item):
            if name not in known:
                yield f"{where}: there is no ConfigMap {name}"
            elif key is not None and key not in (known[name].get("data") or {}):
                yield f"{where}: the ConfigMap {name} has no key {key}"


def traffic_is_restricted(manifests: Manifests) -> Iterator[str]:
    """Every pod is under a network policy for what goes out."""
    if not manifests.of_kind("NetworkPolicy"):
        return  # A variant without the component.
    for where, item in _workloads(manifests):
        labels = item["spec"]["template"]["metadata"]["labels"]
        if not any(
            "Egress" in policy["spec"]["policyTypes"]
            and _selects(policy["spec"]["podSelector"], labels)
            for policy in manifests.of_kind("NetworkPolicy")
        ):
            yield f"{where}: no NetworkPolicy restricts what it may reach"


POD_POLICIES: tuple[Policy, ...] = (
    images_are_pinned,
    resources_are_bounded,
    pods_are_restricted,
    containers_are_restricted,
    roots_are_read_only,
    no_pod_has_a_token,
    no_secret_is_written_down,
    namespaces_enforce_the_standard,
    config_maps_exist,
    traffic_is_restricted,
)


def _selects(selector: Object, labels: dict[str, str]) -> bool:
    exact = selector.get("matchLabels", {})
    among = selector.get("matchExpressions", [])
    return all(labels.get(key) == value for key, value in exact.items()) and all(
        each["operator"] == "In" and labels.get(each["key"]) in each["values"] for each in among
    )


def _config_maps(item: Object) -> Iterator[tuple[str, str | None]]:
    """Yield each ConfigMap that a workload names, and the key where it wants only one."""
    for volume in pod_spec(item).get("volumes", []):
        if "configMap" in volume:
            yield volume["configMap"]["name"], None
    for container in containers(item):
        for source in container.get("envFrom", []):
            if "configMapRef" in source:
                yield source["configMapRef"]["name"], None
        for variable in container.get("env", []):
            reference = variable.get("valueFrom", {}).get("configMapKeyRef")
            if reference:
                yield reference["name"], reference["key"]


def _workloads(manifests: Manifests) -> Iterator[tuple[str, Object]]:
    for item in manifests.of_kind(*POD_KINDS):
        yield f"{item['kind']}/{item['metadata']['name']}", item


def _all_containers(manifests: Manifests) -> Iterator[tuple[str, Object]]:
    for where, item in _workloads(manifests):
        for container in containers(item):
            yield f"{where}, container {container['name']}", container
