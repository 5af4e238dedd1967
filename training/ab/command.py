"""`python -m training ab-report`: the better of two models that are compared online, so far.

May be run as often as one likes, and the comparison stopped as soon as it says who won: the error
stays below alpha all the same (`training.ab.sequential`).
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.ab.observations import Metric, Observed, Shown, first_of_each, interleaved, split
from training.ab.reading import Feedback, read
from training.ab.sequential import Verdict, judge, share_mismatch
from training.errors import InputError

# An assignment that is this unlikely is broken, and so is every conclusion from it.
MISMATCH_E_VALUE = 1_000.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, help="folder of a run, with what `collect` wrote")
    source.add_argument("--events", type=Path, help="a file of feedback events, a line each")
    parser.add_argument("--experiment", help="its name (default: the only one there is)")
    parser.add_argument(
        "--metric",
        choices=("first_click", "any_click"),
        default="first_click",
        help="split: what a good list is: reciprocal position of the first click, or a click at "
        "all (default: %(default)s)",
    )
    parser.add_argument("--alpha", type=float, default=0.05, help="chance of a wrong winner")
    parser.add_argument(
        "--settle-minutes",
        type=float,
        default=60.0,
        help="leave out lists that are younger than this beside the newest event: their clicks "
        "may still come (default: %(default)s)",
    )
    parser.add_argument(
        "--min-dwell-ms", type=int, default=0, help="shorter clicks don't count (default: 0)"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Return the report; raises TrainingError."""
    if not 0 < args.alpha < 1:
        raise InputError("--alpha must lie between 0 and 1")
    feedback = read(args.run or args.events, args.min_dwell_ms)
    taking_part, waiting = _taking_part(feedback, args.experiment, args.settle_minutes)
    return report(taking_part, feedback, args.metric, args.alpha) | {
        "waiting_for_clicks": waiting,
        "bad_lines": feedback.bad_lines,
    }


def report(
    shown: Sequence[Shown], feedback: Feedback, metric: Metric, alpha: float
) -> dict[str, Any]:
    """Return who wins, how sure that is, and what speaks against trusting it."""
    experiment = shown[0].experiment
    if experiment.mode == "interleave":
        observed = interleaved(shown, feedback.clicks)
    elif 0 < experiment.share < 1:
        observed = split(shown, feedback.clicks, metric, experiment.share)
    else:
        raise InputError(f"all lists of {experiment.name} are of one model: nothing to compare")
    verdict = judge(observed.values, observed.low, observed.high, alpha)
    return {
        "experiment": experiment.name,
        "mode": experiment.mode,
        "champion": experiment.champion.model_dump(),
        "challenger": experiment.challenger.model_dump(),
        "metric": "queries won less queries lost" if experiment.mode == "interleave" else metric,
        "queries": len(shown),
        "with_clicks": sum(
            not feedback.clicks.get(one.query_id, set()).isdisjoint(one.doc_ids) for one in shown
        ),
        "arms": _arms(shown, observed),
        "difference": round(verdict.mean, 5),
        "confidence_sequence": [round(verdict.low, 5), round(verdict.high, 5)],
        "alpha": alpha,
        "e_value": round(verdict.e_value, 4),
        "p_value": float(f"{verdict.p_value:.4g}"),
        "decided_at_query": verdict.decided_at,
        "winner": _winner(verdict, observed),
        "warnings": _warnings(shown),
    }


def _taking_part(
    feedback: Feedback, name: str | None, settle_minutes: float
) -> tuple[list[Shown], int]:
    """Return the lists of one experiment that users had time to click on, and how many had not."""
    names = Counter(one.experiment.name for one in feedback.shown)
    if not names:
        raise InputError(
            "no impression belongs to a comparison: run workers with challenger.model_bundle"
        )
    if name is None and len(names) > 1:
        raise InputError(f"there are several: choose an --experiment of {', '.join(names)}")
    chosen = name or next(iter(names))
    if chosen not in names:
        raise InputError(f"there is no experiment {chosen}, but {', '.join(names)}")
    shown = first_of_each(one for one in feedback.shown if one.experiment.name == chosen)
    settings = {
        (each.mode, each.share, each.by, each.champion.digest, each.challenger.digest)
        for each in (one.experiment for one in shown)
    }
    if len(settings) > 1:
        said = ", ".join(
            f"{mode} {share} by {by}, {champion[:19]} and {challenger[:19]}"
            for mode, share, by, champion, challenger in sorted(settings)
        )
        raise InputError(
            f"{chosen} was run with several settings ({said}): give a comparison a new "
            "challenger.name whenever its models, mode, share or `by` change"
        )
    last_ms = (feedback.newest_ms or 0) - settle_minutes * 60_000
    settled = [one for one in shown if one.time_ms is None or one.time_ms <= last_ms]
    if not settled:
        raise InputError(f"all {len(shown)} lists are younger than --settle-minutes: wait")
    return settled, len(shown) - len(settled)


def _arms(shown: Sequence[Shown], observed: Observed) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, goodness in observed.arms.items():
        of_arm = [one for one in shown if one.experiment.arm in (name, "interleaved")]
        found[name] = {
            "queries": len(of_arm),
            "mean": round(float(np.mean(goodness)), 5) if len(goodness) else None,
            "degraded": sum(one.tier != "full" for one in of_arm),
        }
    return found


def _winner(verdict: Verdict, observed: Observed) -> str:
    if verdict.decided_at is None:
        return "undecided"
    # By what made it clear, not by what came later.
    until = observed.values[: verdict.decided_at]
    return "challenger" if until.mean() > 0 else "champion"


def _warnings(shown: Sequence[Shown]) -> list[str]:
    experiment, warnings = shown[0].experiment, []
    if experiment.mode == "interleave":
        begun = sum((one.experiment.teams or ("champion",))[0] == "challenger" for one in shown)
        e_value = share_mismatch(begun, len(shown), 0.5)
    else:
        theirs = sum(one.experiment.arm == "challenger" for one in shown)
        e_value = share_mismatch(theirs, len(shown), experiment.share)
    if experiment.by != "query_id":
        warnings.append(
            f"split by {experiment.by}: queries of one and the same are not independent, so alpha "
            "holds only as far as each brings few queries"
        )
    elif e_value >= MISMATCH_E_VALUE:
        warnings.append(
            "the models' shares are not what the settings say: events are missing, or come from "
            "other settings; don't trust the result"
        )
    return warnings
