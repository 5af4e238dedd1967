import io

import pytest
from rich.console import Console, RenderableType

from demo.figures import Pass
from demo.report import WIDTH, comparison, figures, make_console, movement, snippet
from tests.unit.demo.answers import answered

TEXTS = {f"module.function_{number}": f"Does the\n  thing {number}." for number in range(1, 8)}


def rendered(what: RenderableType, width: int = WIDTH) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, color_system=None, highlight=False).print(what)
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("before", "after", "arrow"), [(4, 1, "▲3"), (1, 3, "▼2"), (2, 2, "="), (100, 1, "▲99")]
)
def test_movement(before: int, after: int, arrow: str) -> None:
    assert movement(before, after) == arrow


def test_snippets_are_one_line() -> None:
    assert snippet("Does the\n   thing.", 20) == "Does the thing."
    assert snippet("word " * 20, 10) == "word word…"
    assert len(snippet("x" * 500, 40)) == 40


def test_a_list_before_and_after() -> None:
    lines = rendered(comparison(answered("how [red]red[/]?", [3, 1, 2]), TEXTS, shown=2))
    assert [" ".join(line.split()) for line in lines] == [
        "how [red]red[/]?",
        "",
        "before: retrieval order after reranking",
        "─" * 98,
        "1 module.function_1 ▼1 module.function_3 ▲2",
        "Does the thing 1. Does the thing 3.",
        "2 module.function_2 ▼1 module.function_1 ▼1",
        "Does the thing 2. Does the thing 1.",
        "",
    ]
    left, right = lines[4].index("module.function_1"), lines[4].index("module.function_3")
    assert lines[5].index("Does the thing 1.") == left
    assert lines[5].index("Does the thing 3.") == right


@pytest.mark.parametrize("width", [60, 80, WIDTH])
def test_a_list_fits_the_console(width: int) -> None:
    long = dict.fromkeys(TEXTS, "many words " * 50)
    lines = rendered(comparison(answered("why? " * 8, [7, 6, 5, 4, 3, 2, 1]), long), width)
    assert max(len(line) for line in lines) <= width
    assert any("…" in line for line in lines)


def test_figures_are_those_of_the_answers() -> None:
    first = Pass("first", [answered("a", [1, 2], latency_s=n / 10) for n in (1, 2, 3)], 2.0)
    again = Pass("again", [answered("a", [1, 2], hits=2, latency_s=0.01)], 0.01)
    text = rendered(figures([first, again]))
    assert text[3].split() == ["first", "3", "1.5", "3", "200", "290", "0", "of", "6", "(0%)"]
    assert text[4].split() == [
        *("again", "1", "100.0", "200", "10", "10"),
        *("2", "of", "2", "(100%)"),
    ]
    assert first.hit_ratio == 0.0
    assert again.hit_ratio == 1.0


def test_no_colors_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    console = make_console()
    console.print(comparison(answered("why?", [2, 1]), TEXTS, shown=2))
    console.print("[bold red]x[/]")
    assert "\x1b" not in capsys.readouterr().out
    assert console.width == WIDTH
