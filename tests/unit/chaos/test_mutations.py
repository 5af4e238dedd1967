"""The mutations of `tests.mutations` still change something, and name tests that exist."""

from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.mutations.__main__ import mutate
from tests.mutations.cases import MUTATIONS, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[one.name for one in MUTATIONS])
def test_a_mutation_changes_what_is_there(mutation: Mutation, tmp_path: Path) -> None:
    copy = tmp_path / mutation.file
    copy.parent.mkdir(parents=True)
    original = (REPOSITORY / mutation.file).read_text(encoding="utf-8")
    copy.write_text(original, encoding="utf-8")
    mutate(tmp_path, mutation)
    changed = copy.read_text(encoding="utf-8")
    assert changed != original
    compile(changed, mutation.file, "exec")
    for test in mutation.tests:
        file, _, name = test.partition("::")
        assert f"def {name}" in (REPOSITORY / file).read_text(encoding="utf-8")
