"""A wrong recipe is refused as a whole, with a line for each mistake."""

from pathlib import Path

import pytest

import training
from training.__main__ import main
from training.config import RecipeError, load_recipe

GOOD = "data: {sources: {wordnet: {queries: 5}}}\ntrain: {steps: 10}\n"


def recipe_file(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_fill_a_short_recipe(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file(tmp_path, GOOD))
    assert recipe.train.steps == 10
    assert recipe.lora.rank == 16


@pytest.mark.parametrize("name", ["default", "broad"])
def test_the_committed_recipes_are_valid(name: str) -> None:
    folder = Path(training.__file__).parent / "recipes"
    assert load_recipe(folder / f"{name}.yaml").data.sources


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: {steps: 10}\n", "data: Field required"),
        (GOOD + "lorra: {}\n", "lorra: Extra inputs are not permitted"),
        (GOOD + "evaluate: {halves: [MED]}\n", "halves: MED is none of the collections"),
        (GOOD.replace("10", "0"), "train.steps: Input should be greater than 0"),
        ("data: [", "not valid YAML"),
        ("", "top level"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.yaml") as error:
        load_recipe(recipe_file(tmp_path, text))
    assert said in str(error.value)


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    text = "data: {sources: {wordnet: {queries: -1}}}\ntrain: {steps: 10, max_length: 4}\n"
    with pytest.raises(RecipeError) as error:
        load_recipe(recipe_file(tmp_path, text))
    assert "data.sources.wordnet.queries" in str(error.value)
    assert "train.max_length" in str(error.value)


def test_a_missing_recipe_ends_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(
        ["train-recipe", "--config", str(tmp_path / "none.yaml"), "--data", ".", "--out", "."]
    )
    assert code == 2
    assert capsys.readouterr().err.startswith("error: cannot read the recipe")
