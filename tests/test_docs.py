"""The pages say what the program does: commands and options as in --help, links that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llama_core.architectures import ALL
from tests.support import command_docs

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "assets").rglob("*.md"))]


def test_the_page_of_commands_is_what_the_parsers_say() -> None:
    """To mend it: `uv run python -m tests.support.command_docs`."""
    assert command_docs.PAGE.read_text(encoding="utf-8") == command_docs.page()


def test_the_page_of_formats_names_every_family() -> None:
    page = (ROOT / "assets" / "docs" / "formats.md").read_text(encoding="utf-8")
    rows = [f"| {a.name} | {', '.join(a.gguf)} | {', '.join(a.huggingface)} |" for a in ALL]
    assert [row for row in rows if row not in page] == []


def test_the_page_of_faults_names_tests_that_are_there() -> None:
    page = (ROOT / "assets" / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("|") and "---" not in line]
    cells = [row[-1].strip() for row in rows if row[-1].strip() != "test"]
    assert len(cells) > 20
    for cell in cells:
        names = re.fullmatch(r"`([\w/]+\.py)`(?:, `([\w/]+\.py)`)*", cell)
        assert names is not None, cell
        for name in re.findall(r"`([^`]+)`", cell):
            assert "def test_" in (ROOT / "tests" / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_link_leads_somewhere(page: Path) -> None:
    assert [target for target in links(page) if not target.exists()] == []


def links(page: Path) -> list[Path]:
    """What a page links to in this repository."""
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    return [(page.parent / target).resolve() for target in targets if "://" not in target]


def test_every_page_is_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            waiting += links(page)
    assert [page.name for page in PAGES if page not in reached and page.name != "CHANGELOG.md"] == []


def test_the_readme_is_a_newcomers() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 160
    assert max(map(len, lines)) <= 130
