"""List the pictures that the operator lets styles use."""

from __future__ import annotations

from pathlib import Path

from flowmaps.errors import ConfigurationError

_KINDS = frozenset((".svg", ".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"))


def list_assets(directory: Path | None) -> dict[str, str]:
    """Return the pictures in *directory* and below: name relative to it, with ``/``, to the absolute path.

    A link that leads out of the directory is left out. Raise `ConfigurationError` where there is no such directory.
    """
    if directory is None:
        return {}
    root = directory.resolve()
    if not root.is_dir():
        raise ConfigurationError(f"FLOWMAPS_RENDER_ASSET_DIRECTORY: {directory} is not a directory")
    return {
        path.relative_to(root).as_posix(): str(path)
        for path in sorted(root.rglob("*"))
        if path.suffix.lower() in _KINDS and path.is_file() and path.resolve().is_relative_to(root)
    }
