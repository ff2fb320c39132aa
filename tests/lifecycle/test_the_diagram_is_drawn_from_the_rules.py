from pathlib import Path

from training.management import diagram


def test_the_page_is_not_stale():
    page = Path(__file__).parents[2] / "docs" / "lifecycle.md"
    assert page.read_text() == diagram.page(), "docs/lifecycle.md is stale: run make diagram"
