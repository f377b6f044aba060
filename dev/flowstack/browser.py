"""The system's Chromium, driven by Playwright."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright

from flowstack.packages import program

_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    # A browser that asks its maker for news would wait for an answer that does not come.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_SOFTWARE_WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


@asynccontextmanager
async def chromium(*, webgl: bool = False) -> AsyncIterator[Browser]:
    """Yield a browser without a window; with *webgl* it draws that in software."""
    flags = [*_FLAGS, *(_SOFTWARE_WEBGL if webgl else ())]
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=program("chromium"), args=flags)
        yield running
        await running.close()
