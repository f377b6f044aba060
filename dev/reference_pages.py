"""Write the pages of the documentation that come from the code; a test compares them with what is committed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from reference_settings import settings_page

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES: dict[str, Callable[[], str]] = {"configuration.md": settings_page}
"""File → what it holds."""


def main() -> None:
    for name, write in PAGES.items():
        (DOCS / name).write_text(write(), encoding="utf-8")


if __name__ == "__main__":
    main()
