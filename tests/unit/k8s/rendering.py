"""Renders folders of `k8s/` for tests."""

import os

import pytest

from k8s.checks.render import K8S, Manifests, build, parse
from k8s.checks.tools import ToolMissingError, find


def rendered(folder: str) -> Manifests:
    """A folder of `k8s/`, rendered."""
    need("kustomize")
    return parse(folder, build(K8S / folder))


def need(tool: str) -> None:
    """Skips the test where the program is missing, or fails it where `CI` is `true`."""
    try:
        find(tool)
    except ToolMissingError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
