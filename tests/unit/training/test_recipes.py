from pathlib import Path

import pytest

from training.plan import load_plan


@pytest.mark.parametrize("name", ["feedback", "distil"])
def test_a_recipe_is_a_plan(name: str) -> None:
    plan = load_plan(Path("training/recipes") / f"{name}.yaml")

    assert plan.collect.kafka is not None
    assert plan.label.index_bundle is not None
