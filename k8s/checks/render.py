"""Folders to objects, and how to look into them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from k8s.checks import tools

K8S = tools.REPOSITORY / "k8s"
Object = dict[str, Any]
WORKER = "kafka-reranker"
POD_KINDS = ("Deployment", "StatefulSet", "DaemonSet", "Job")


class RenderError(Exception):
    """kustomize refuses a folder."""


@dataclass(frozen=True)
class Manifests:
    """What one folder renders to."""

    name: str
    objects: Sequence[Object]

    def of_kind(self, *kinds: str) -> list[Object]:
        """Return all objects of these kinds."""
        return [each for each in self.objects if each["kind"] in kinds]

    def get(self, kind: str, name: str) -> Object | None:
        """Return one object, or None."""
        named = [each for each in self.of_kind(kind) if each["metadata"]["name"] == name]
        return named[0] if named else None

    @cached_property
    def values(self) -> dict[str, str]:
        """Return the worker's ConfigMap, whose name has a suffix of its content."""
        for each in self.of_kind("ConfigMap"):
            if "RERANKER_MODEL_BUNDLE" in (each.get("data") or {}):
                return dict(each["data"])
        return {}

    @property
    def worker(self) -> Object:
        """Return the worker's Deployment."""
        found = self.get("Deployment", WORKER)
        if found is None:
            raise RenderError(f"{self.name} has no Deployment {WORKER}")
        return found

    @property
    def worker_pod(self) -> Object:
        """Return the worker's pod spec."""
        return pod_spec(self.worker)

    @property
    def worker_container(self) -> Object:
        """Return the worker's container."""
        return next(each for each in self.worker_pod["containers"] if each["name"] == "worker")


def overlays() -> list[Path]:
    """Return the folders that users apply."""
    return sorted(path.parent for path in (K8S / "overlays").glob("*/kustomization.yaml"))


def variants() -> list[Path]:
    """Return the folders that bring in the components that no overlay has."""
    return sorted(path.parent for path in (K8S / "checks/variants").glob("*/kustomization.yaml"))


def build(folder: Path) -> str:
    """Return a folder as YAML; raises RenderError and ToolMissingError."""
    done = tools.run("kustomize", "build", folder)
    if done.returncode != 0:
        raise RenderError(f"{folder.name}: {done.stderr.strip()}")
    return done.stdout


def parse(name: str, text: str) -> Manifests:
    """Return the objects of a YAML text."""
    return Manifests(name, [each for each in yaml.safe_load_all(text) if each is not None])


def pod_spec(item: Object) -> Object:
    """Return the pod spec of a Deployment, StatefulSet or Job."""
    spec: Object = item["spec"]["template"]["spec"]
    return spec


def containers(item: Object) -> Iterator[Object]:
    """Return all containers of a workload, those that run first first."""
    spec = pod_spec(item)
    yield from spec.get("initContainers", [])
    yield from spec["containers"]
