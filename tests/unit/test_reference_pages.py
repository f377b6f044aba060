"""Generated parts of the documentation are those that ``make docs`` writes."""

from __future__ import annotations

import pytest

from flowmaps.cartocss import load_reference
from reference_pages import DOCS, PAGES, rendered


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_up_to_date(page: str) -> None:
    assert (DOCS / page).read_text(encoding="utf-8") == rendered(page), "run make docs"


def test_every_property_is_on_the_page() -> None:
    text = (DOCS / "cartocss.md").read_text(encoding="utf-8")
    assert [name for name in load_reference().properties if f"| `{name}` |" not in text] == []
