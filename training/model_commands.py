"""The commands that make a better model of labels and let it serve."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from training.plan import Plan, load_plan
from training.plan_arguments import add_plan

# As with `export model`: what was made is not good enough.
REFUSED = 3

Step = Callable[[Plan, argparse.Namespace], Any]


@dataclass(frozen=True)
class ModelCommand:
    """A command that reads the plan; `step` returns what is printed as JSON."""

    step: Step
    needs_run: bool = True
    declare: Callable[[argparse.ArgumentParser], None] = lambda _: None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""
        add_plan(parser, needs_run=self.needs_run)
        self.declare(parser)

    def run(self, args: argparse.Namespace) -> Any:
        """Run the step; raises TrainingError."""
        return self.step(load_plan(args.plan), args)


def _train(plan: Plan, args: argparse.Namespace) -> Any:
    from training.finetune.step import train  # noqa: PLC0415 - torch takes seconds

    return train(plan.train, args.run, plan.label.index_bundle)


def _gate(plan: Plan, args: argparse.Namespace) -> Any:
    from training.gate.step import Ground, gate  # noqa: PLC0415 - torch takes seconds

    report = gate(
        Ground(
            plan=plan.gate,
            run=args.run,
            registry=plan.promote.registry,
            max_tokens=plan.train.max_tokens,
            name=plan.promote.name,
            labels_index=plan.label.index_bundle,
        )
    )
    if report["verdict"] == "pass":
        return report
    sys.stdout.write(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    for reason in report["reasons"]:
        sys.stderr.write(f"refused: {reason}\n")
    raise SystemExit(REFUSED)


def _promote(plan: Plan, args: argparse.Namespace) -> Any:
    from training.promote import promote  # noqa: PLC0415 - torch takes seconds

    return promote(plan.promote, args.run)


def _declare_rollback(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", metavar="DIGEST", help="which one (default: the one before)")


def _rollback(plan: Plan, args: argparse.Namespace) -> Any:
    from training.promote import rollback  # noqa: PLC0415

    return rollback(plan.promote, args.to)


def _declare_registry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="all fields, for other programs")


def _registry(plan: Plan, args: argparse.Namespace) -> Any:
    from training.registry import Registry  # noqa: PLC0415
    from training.registry_table import show  # noqa: PLC0415

    registry = Registry(plan.promote.registry)
    if args.json:
        return {
            "current": registry.current(),
            "changes": [
                change.model_dump(mode="json", exclude_none=True) for change in registry.changes()
            ],
        }
    show(registry)
    return None


train = ModelCommand(_train)
gate = ModelCommand(_gate)
promote = ModelCommand(_promote)
rollback = ModelCommand(_rollback, needs_run=False, declare=_declare_rollback)
registry = ModelCommand(_registry, needs_run=False, declare=_declare_registry)
