"""`python -m k8s.checks`: render every overlay and variant, and check all of it.

Ends with 1 when something is wrong. Where a program is missing it says how to get it and goes on
without; with `CI=true` that ends with 1 as well.
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from k8s.checks import environment, images, monitoring, tools
from k8s.checks.policy import POD_POLICIES, Policy
from k8s.checks.render import K8S, Manifests, RenderError, build, overlays, parse, variants
from k8s.checks.scaling_policy import SCALING_POLICIES
from k8s.checks.worker_policy import WORKER_POLICIES

SCHEMAS = K8S / "schemas" / "{{.Group}}" / "{{.ResourceKind}}_{{.ResourceAPIVersion}}.json"

# Settings first: policies read them.
POLICIES: tuple[Policy, ...] = (
    environment.unknown_variables,
    environment.refused_variables,
    *POD_POLICIES,
    *WORKER_POLICIES,
    *SCALING_POLICIES,
    images.images_are_ours,
    images.the_user_is_the_images,
    monitoring.unknown_metrics,
    monitoring.failing_alerts,
)


def main() -> int:
    """Check everything and return the exit code."""
    wrong = 0
    missing: set[str] = set()
    for folder in [*overlays(), *variants()]:
        problems = list(_guarded(lambda folder=folder: check_folder(folder, missing), missing))  # type: ignore[misc]
        wrong += len(problems)
        name = folder.relative_to(K8S)
        sys.stdout.write(f"{name}: {len(problems)} problems\n")
        for problem in problems:
            sys.stderr.write(f"{name}: {problem}\n")
    for reason in sorted(missing):
        sys.stderr.write(f"not checked: {reason}\n")
    return 1 if wrong or (missing and os.environ.get("CI") == "true") else 0


def check_folder(folder: Path, missing: set[str]) -> Iterator[str]:
    """Yield what is wrong with a folder; raises ToolMissingError without kustomize."""
    try:
        text = build(folder)
    except RenderError as error:
        yield str(error)
        return
    yield from check(parse(folder.name, text), missing)
    yield from _guarded(lambda: invalid(text), missing)


def check(manifests: Manifests, missing: set[str]) -> list[str]:
    """Return what the policies say; a program that is not here goes into `missing`."""
    problems: list[str] = []
    for policy in POLICIES:
        try:
            found = list(_guarded(lambda policy=policy: policy(manifests), missing))  # type: ignore[misc]
        except environment.RefusedError:
            continue  # Said already; this policy needs settings.
        problems += found
    return problems


def invalid(text: str) -> Iterator[str]:
    """Yield what kubeconform says against a rendered text; raises ToolMissingError."""
    done = tools.run(
        "kubeconform",
        "-strict",
        "-schema-location",
        str(SCHEMAS),
        "-output",
        "text",
        "-",
        text=text,
    )
    if done.returncode != 0:
        yield from (done.stdout + done.stderr).strip().splitlines()


def _guarded(check_one: Callable[[], Iterator[str]], missing: set[str]) -> Iterator[str]:
    try:
        yield from check_one()
    except tools.ToolMissingError as error:
        missing.add(str(error))


if __name__ == "__main__":
    sys.exit(main())
