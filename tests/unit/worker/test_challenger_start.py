"""A challenger in the settings: opened, refused, and heard by `python -m worker rank`."""

import io
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from engine.bundles import open_model
from tests.fakes.events import event_json
from tests.unit.tiny_retrieval import write_counting_model
from worker.build import open_bundles
from worker.errors import StartError
from worker.lines import rank_lines
from worker.settings import ChallengerSettings, Settings


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One counts foxes, the other dogs."""
    folder = tmp_path_factory.mktemp("models")
    return write_counting_model(folder / "a", "fox"), write_counting_model(folder / "b", "dog")


def test_a_challenger_must_be_another_model(bundles: tuple[Path, Path]) -> None:
    both = Settings(model_bundle=bundles[0], challenger=ChallengerSettings(model_bundle=bundles[0]))
    with pytest.raises(StartError, match=r"RERANKER_CHALLENGER__MODEL_BUNDLE.* is model_bundle"):
        open_bundles(both)
    missing = ChallengerSettings(model_bundle=bundles[0] / "nowhere")
    with pytest.raises(StartError, match="RERANKER_CHALLENGER__MODEL_BUNDLE"):
        open_bundles(Settings(model_bundle=bundles[0], challenger=missing))


def test_what_can_be_split_by() -> None:
    assert ChallengerSettings(by="attributes.user").by == "attributes.user"
    with pytest.raises(ValidationError):
        ChallengerSettings(by="user")
    with pytest.raises(ValidationError):
        ChallengerSettings(share=1.5)


@pytest.mark.parametrize("mode", ["split", "interleave"])
def test_rank_shows_who_ranked(bundles: tuple[Path, Path], mode: str) -> None:
    settings = Settings(
        model_bundle=bundles[0],
        challenger=ChallengerSettings(model_bundle=bundles[1], mode=mode),
    )
    texts = ["line", "dog dog", "fox", "fox fox", "dog"]
    lines = [event_json(f"q{n}", texts=texts).decode() for n in range(12)]
    out = io.StringIO()
    assert rank_lines(settings, lines, out) == 0
    digests = [open_model(bundle).digest for bundle in bundles]
    tops = {"champion": "d4", "challenger": "d2"}
    seen = set()
    for line in out.getvalue().splitlines():
        answer = json.loads(line)
        experiment = answer.get("experiment", {"arm": None})
        seen.add(experiment["arm"])
        first = answer["ranking"][0]["doc_id"]
        if experiment["arm"] == "interleaved":
            assert first == tops[experiment["teams"][0]]
        else:
            of_challenger = experiment["arm"] == "challenger"
            assert answer["model"]["digest"] == digests[of_challenger]
            assert first == tops["challenger" if of_challenger else "champion"]
        if experiment["arm"]:
            assert experiment["name"].split("-")[:3] == [*(each[7:19] for each in digests), mode]
    expected = {"champion", "challenger"} if mode == "split" else {"interleaved", None}
    assert seen == expected
