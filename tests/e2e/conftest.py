"""A real browser for the pages that people use."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, async_playwright

CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    # A browser that asks its maker for news would wait for an answer that does not come.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """The system's Chromium, without a window."""
    program = shutil.which("chromium")
    assert program, "chromium is missing: python -m flowstack install"
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=program, args=list(CHROMIUM_FLAGS))
        yield running
        await running.close()
