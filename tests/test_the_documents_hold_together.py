"""Links in the documents lead somewhere, files that they name exist, and the README leads to each document."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "tests/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
NAMED = re.compile(r"`([\w.-]+(?:/[\w.-]+)+\.(?:py|md|txt|toml|yaml|js|conf|service))`")
PLACES = ("", "docs", "training")
OF_USERS = {f"{package}/{name}.py" for package in ("line", "wave") for name in ("config", "recipe")}


def links_of(document: Path) -> list[tuple[Path, str]]:
    """The files and headings of this repository that a document leads to."""
    found = re.findall(r"\]\(([^)\s]+)\)", document.read_text())
    inner = [link.partition("#") for link in found if not link.startswith(("http://", "https://"))]
    return [((document.parent / path).resolve() if path else document, anchor) for path, _, anchor in inner]


def headings_of(document: Path) -> set[str]:
    """As GitHub makes anchors of them."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere_and_every_file_exists(document):
    for path, anchor in links_of(document):
        assert path.exists(), path
        assert not anchor or anchor in headings_of(path), (path, anchor)
    for name in set(NAMED.findall(document.read_text())) - OF_USERS:
        assert any((ROOT / place / name).exists() for place in PLACES), name


def test_each_document_can_be_reached_from_the_readme():
    reached, to_read = set(), [ROOT / "README.md"]
    while to_read:
        document = to_read.pop()
        reached.add(document)
        for path, _ in links_of(document):
            path = path / "README.md" if path.is_dir() else path
            if path.suffix == ".md" and path not in reached:
                to_read.append(path)
    assert reached == set(DOCUMENTS)


@pytest.mark.parametrize(
    "record", sorted((ROOT / "docs/decisions").glob("[0-9]*.md")), ids=lambda path: path.stem
)
def test_each_decision_says_under_its_title_what_it_is_about(record):
    title, empty, first = record.read_text().split("\n")[:3]
    assert re.match(rf"# {record.stem[:3]} \S", title)
    assert not empty
    assert re.match(r"\*[^*\s]", first), "one plain sentence in italics: what was decided, and for whom"


def test_the_page_of_the_tests_names_every_folder_of_them():
    rows = [line for line in (ROOT / "tests/README.md").read_text().splitlines() if line.startswith("| `")]
    named = [re.match(r"\| `(\w+)/`", row)[1] for row in rows]  # type: ignore[index]
    tracked = {
        path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"
    }
    assert sorted(named) == sorted(tracked)
