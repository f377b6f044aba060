"""The render pool knows the fonts and pictures that the operator gives to styles."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowmaps.errors import ConfigurationError
from flowmaps.render import RenderPool
from flowmaps.settings import RenderSettings


async def test_the_pool_lists_the_pictures_of_the_asset_directory(tmp_path: Path) -> None:
    (tmp_path / "well.svg").write_text("<svg/>")
    async with RenderPool(RenderSettings(workers=1, asset_directory=tmp_path)) as pool:
        assert pool.assets == {"well.svg": str(tmp_path / "well.svg")}
        assert "DejaVu Sans Book" in pool.fonts


async def test_a_fallback_font_that_is_not_installed_stops_the_start() -> None:
    with pytest.raises(ConfigurationError, match="there is no font face 'No Such Font'"):
        async with RenderPool(RenderSettings(workers=1, fallback_font="No Such Font")):
            pass


async def test_an_asset_directory_that_is_missing_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not a directory"):
        async with RenderPool(RenderSettings(workers=1, asset_directory=tmp_path / "missing")):
            pass
