"""The number of workers that KEDA and the HorizontalPodAutoscaler would run, from the lag.

KEDA's kafka trigger turns the lag of all partitions into one figure; the HorizontalPodAutoscaler
divides it by the threshold, looks back over its windows, and takes steps no larger than its
policies allow. Both are written here as their documentation and sources define them, fed with the
fields of k8s/components/keda/scaledobject.yaml.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

MANIFEST = Path(__file__).resolve().parents[1] / "k8s/components/keda/scaledobject.yaml"
# --horizontal-pod-autoscaler-tolerance: a ratio of wanted to present so near to 1 changes nothing.
TOLERANCE = 0.1


@dataclass(frozen=True)
class StepPolicy:
    """At most `value` pods, or percent of them, within `period_s`."""

    kind: Literal["Pods", "Percent"]
    value: int
    period_s: float


@dataclass(frozen=True)
class Direction:
    """How to go up, or down."""

    window_s: float
    policies: Sequence[StepPolicy]


@dataclass(frozen=True)
class Rules:
    """All that decides. `sync_s` is the time between two decisions."""

    threshold: int
    least: int
    most: int
    limit_to_partitions_with_lag: bool
    sync_s: float
    up: Direction
    down: Direction


@dataclass
class Scaler:
    """Decides, and remembers what it has to. Times are seconds on any one clock."""

    rules: Rules
    _wanted: list[tuple[float, int]] = field(default_factory=list)
    _steps: list[tuple[float, int]] = field(default_factory=list)

    def decide(self, lag: Mapping[int, int], present: int, now_s: float) -> int:
        """Return how many workers there shall be, with `present` of them now."""
        wanted = self._from_lag(lag, present)
        stable = self._stabilized(wanted, present, now_s)
        self._wanted.append((now_s, wanted))
        chosen = self._within_steps(stable, present, now_s)
        if chosen != present:
            self._steps.append((now_s, chosen - present))
        return chosen

    def _from_lag(self, lag: Mapping[int, int], present: int) -> int:
        """Ceil of lag over threshold, where the lag counts up to one threshold a partition."""
        rules, total = self.rules, sum(lag.values())
        limited = rules.limit_to_partitions_with_lag
        useful = sum(each > 0 for each in lag.values()) if limited else len(lag)
        if total // rules.threshold > useful:
            total = useful * rules.threshold
        if 1 - TOLERANCE <= total / (rules.threshold * present) <= 1 + TOLERANCE:
            return present
        return math.ceil(total / rules.threshold)

    def _stabilized(self, wanted: int, present: int, now_s: float) -> int:
        """Never below the most that was wanted within the window, and for going up the least."""
        lowest = min([wanted, *self._since(self.rules.up.window_s, now_s)])
        highest = max([wanted, *self._since(self.rules.down.window_s, now_s)])
        return min(max(present, lowest), highest)

    def _since(self, window_s: float, now_s: float) -> list[int]:
        return [wanted for at_s, wanted in self._wanted if at_s > now_s - window_s]

    def _within_steps(self, wanted: int, present: int, now_s: float) -> int:
        rules = self.rules
        if wanted > present:
            allowed = max(self._step(policy, present, now_s, 1) for policy in rules.up.policies)
            return max(present, min(wanted, allowed, rules.most))
        allowed = min(self._step(policy, present, now_s, -1) for policy in rules.down.policies)
        return max(min(wanted, present), min(allowed, present), rules.least)

    def _step(self, policy: StepPolicy, present: int, now_s: float, sign: int) -> int:
        """Return how far a policy lets the number go from where its period began."""
        recent = sum(step for at_s, step in self._steps if at_s > now_s - policy.period_s)
        start = present - recent
        if policy.kind == "Pods":
            return start + sign * policy.value
        changed = start * (1 + sign * policy.value / 100)
        return math.ceil(changed) if sign > 0 else math.floor(changed)


def rules_of_manifest(
    threshold: int, least: int, most: int, speedup: float = 1.0, path: Path = MANIFEST
) -> Rules:
    """Return the manifest's rules; with `speedup` all of its times are so much shorter."""
    spec = yaml.safe_load(path.read_text())["spec"]
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    metadata = spec["triggers"][0]["metadata"]
    return Rules(
        threshold=threshold,
        least=least,
        most=most,
        limit_to_partitions_with_lag=metadata["limitToPartitionsWithLag"] == "true",
        sync_s=spec["pollingInterval"] / speedup,
        up=_direction(behavior["scaleUp"], speedup),
        down=_direction(behavior["scaleDown"], speedup),
    )


def _direction(behavior: Mapping[str, Any], speedup: float) -> Direction:
    return Direction(
        window_s=behavior["stabilizationWindowSeconds"] / speedup,
        policies=[
            StepPolicy(policy["type"], policy["value"], policy["periodSeconds"] / speedup)
            for policy in behavior["policies"]
        ],
    )
