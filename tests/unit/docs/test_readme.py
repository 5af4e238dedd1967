"""What the README shows is what is there."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
README = (REPOSITORY / "README.md").read_text()
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CHANGELOG.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]


def test_python_in_the_readme_is_an_example_that_the_tests_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    examples = {path.read_text() for path in (REPOSITORY / "docs" / "examples").glob("*.py")}
    assert len(blocks) == 2
    assert set(blocks) <= examples


def test_links_between_pages_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(REPOSITORY)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
        if not target.startswith(("http://", "https://", "mailto:"))
        and not (page.parent / target).exists()
    ]
    assert broken == []
