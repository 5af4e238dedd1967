"""Rendered manifests."""

import pytest

from k8s.checks.render import Manifests
from tests.unit.k8s.rendering import rendered


@pytest.fixture(scope="session")
def production() -> Manifests:
    """The production overlay."""
    return rendered("overlays/production")


@pytest.fixture(scope="session")
def plain() -> Manifests:
    """The variant with the plain autoscaler."""
    return rendered("checks/variants/hpa")


@pytest.fixture(scope="session")
def store() -> Manifests:
    """The variant with bundles out of an object store."""
    return rendered("checks/variants/store")
