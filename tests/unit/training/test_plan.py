"""The plan: an example that loads and holds the defaults, and a line for each mistake."""

from pathlib import Path

import pytest
import yaml

from training.__main__ import COMMANDS, main
from training.errors import PlanError
from training.plan import Plan, load_plan
from training.plan_example import example


def plan_file(folder: Path, text: str) -> Path:
    path = folder / "plan.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def uncommented(text: str) -> str:
    """The example with the sections on that are off by default."""
    lines, on = [], False
    for line in text.splitlines():
        opens = (
            line.lstrip().startswith("# ") and line.endswith(":") and " " not in line.strip("# ")
        )
        on = (on and line.startswith("# ")) or (opens and line.startswith("# "))
        lines.append(line[2:] if on else line)
    return "\n".join(lines)


def test_the_example_holds_the_defaults(tmp_path: Path) -> None:
    assert load_plan(plan_file(tmp_path, example(Plan))) == Plan()


def test_the_sections_that_are_off_load_when_they_are_put_on(tmp_path: Path) -> None:
    plan = load_plan(plan_file(tmp_path, uncommented(example(Plan))))
    assert plan.collect.kafka is not None
    assert plan.collect.kafka.topic == "rerank.feedback"
    assert plan.annotate.llm is not None
    assert plan.annotate.llm.model == "my-model"
    assert plan.annotate.corpus is not None
    assert plan.annotate.corpus.top_k == 10


def test_every_setting_is_in_the_example() -> None:
    text = example(Plan)
    for section in Plan.model_fields:
        assert f"\n{section}:" in text
    assert "one of drop, downweight, keep" in text
    assert "≥ 0.0, ≤ 1.0" in text


def test_an_empty_plan_is_all_defaults(tmp_path: Path) -> None:
    assert load_plan(plan_file(tmp_path, "")) == Plan()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("label: {clicks: {clip: 0.5}}", "label.clicks.clip: Input should be greater than or"),
        ("label: {clicks: {clip: 0.5}}", "not 0.5"),
        ("label: {clicks: {clipp: 3}}", "label.clicks.clipp: no such setting; did you mean clip?"),
        ("labels: {}", "labels: no such setting; did you mean label? Allowed here: collect, "),
        ("label: {agreement: {disputed: ask}}", "'drop', 'downweight' or 'keep', not 'ask'"),
        ("label: {split: {dev: 0.6, test: 0.6}}", "label.split: dev and test together must leave"),
        ("label: {mine: {from_rank: 9, to_rank: 3}}", "from_rank must not be greater"),
        ("collect: {files: [{label_max: 3}]}", "collect.files.0.path: Field required"),
        ("collect: {files: [{pth: x, path: y}]}", "collect.files.0.pth: no such setting"),
        ("collect: {kafka: {sasl_mechanism: OAUTHBEARER}}", "sasl_oauth_token_file go together"),
        ("annotate: {llm: {}}", "annotate.llm.model: Field required"),
        ("[1, 2]", "top level: Input should be"),
        ("collect: [", "not valid YAML"),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(PlanError, match=r"plan\.yaml") as error:
        load_plan(plan_file(tmp_path, text))
    assert said in str(error.value)


def test_each_mistake_has_its_line(tmp_path: Path) -> None:
    text = "label: {clicks: {clip: 0}}\ncollect: {flush_rows: 0}\ntrain: {epochs: 0}\n"
    with pytest.raises(PlanError) as error:
        load_plan(plan_file(tmp_path, text))
    assert len(str(error.value).splitlines()) == 4


def test_init_writes_and_does_not_write_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "plan.yaml"
    assert main(["init", "--out", str(out)]) == 0
    assert yaml.safe_load(out.read_text())["label"]["clicks"]["clip"] == 10.0
    out.write_text("mine")
    assert main(["init", "--out", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert main(["init", "--out", str(out), "--force"]) == 0
    assert load_plan(out) == Plan()


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([name, "--help"])
    assert exit_.value.code == 0
    assert "usage: python -m training" in capsys.readouterr().out


def test_the_plan_of_the_page_loads(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "training-data.md").read_text(encoding="utf-8")
    text = page.split("```yaml\n")[1].split("```")[0]
    plan = load_plan(plan_file(tmp_path, text))
    assert plan.annotate.llm is not None
    assert [str(file.path) for file in plan.collect.files] == [
        "my_rerank_data.jsonl",
        "judged.jsonl",
    ]
