"""Derive the colour palettes of TurboCARTO's ramps from the npm packages colorbrewer and cartocolor.

Usage: ``PYTHONPATH=dev python dev/palettes.py``; the packages are dependencies of turbo-carto, which is in ``dev/npm``.
ColorBrewer 1.0.0: Apache-Style licence of ColorBrewer, with its acknowledgment in NOTICE.
CARTOColors 4.0.2: Creative Commons Attribution 3.0 US, likewise; its ``cb_`` palettes repeat ColorBrewer's.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from flowstack.npm import node_modules

DATA = Path(__file__).resolve().parent.parent / "src" / "flowmaps" / "turbocarto" / "data" / "palettes.json"
PACKAGES = ("colorbrewer", "cartocolor")
_PRINT = "process.stdout.write(JSON.stringify(require(process.argv[1])))"


def palettes(package: str) -> dict[str, dict[str, list[str]]]:
    """Return an npm package's palettes: name → number of classes → colours."""
    command = ["node", "-e", _PRINT, str(node_modules() / package)]
    raw = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {
        name: {size: colours for size, colours in palette.items() if size.isdigit()} for name, palette in raw.items()
    }


def main() -> None:
    document = {package: palettes(package) for package in PACKAGES}
    DATA.write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
