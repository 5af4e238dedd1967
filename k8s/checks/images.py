"""Images of the manifests against the Dockerfile and the version of the package."""

import re
import tomllib
from collections.abc import Iterator

from k8s.checks.render import Manifests, containers
from k8s.checks.tools import REPOSITORY

REGISTRY = "ghcr.io/kafka-reranker/"
# Bundles are named by digest; the others are targets of the Dockerfile, and tagged by the version.
BUNDLES = ("model", "index")


def images_are_ours(manifests: Manifests) -> Iterator[str]:
    """Yield a line for each image of ours that the Dockerfile doesn't make under that name."""
    version = package_version()
    targets = dockerfile_targets()
    for container in containers(manifests.worker):
        image = container["image"]
        name, _, tag = image.rpartition(":")
        short = name.removeprefix(REGISTRY)
        variable = f"{short.upper()}_DIGEST"
        if short in BUNDLES:
            if f"sha256:{tag}" != manifests.values.get(variable):
                yield f"{image} is not the {short} that {variable} names"
        elif short not in targets:
            yield f"{image}: the Dockerfile has no target {short!r}"
        elif tag.removesuffix("-gpu") != version:
            yield f"{image}: the version is {version}"


def the_user_is_the_images(manifests: Manifests) -> Iterator[str]:
    """Yield a line when pods run as another user than the image was made for."""
    user = re.search(r"^USER (\d+):(\d+)$", _dockerfile(), re.MULTILINE)
    security = manifests.worker_pod["securityContext"]
    wanted = [int(number) for number in user.groups()] if user else None
    if wanted != [security.get("runAsUser"), security.get("runAsGroup")]:
        yield f"the worker must run as the Dockerfile's user, {wanted}"


def package_version() -> str:
    """Return the version in pyproject.toml."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    return str(project["project"]["version"])


def dockerfile_targets() -> set[str]:
    """Return the names of the Dockerfile's stages."""
    return set(re.findall(r"^FROM \S+ AS (\S+)$", _dockerfile(), re.MULTILINE))


def _dockerfile() -> str:
    return (REPOSITORY / "Dockerfile").read_text()
