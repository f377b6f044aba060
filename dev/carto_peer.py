"""Ask npm carto what a stylesheet compiles to, and bring maps into one comparable form.

For tests and benchmarks only; one node process for each version of carto stays warm while the `Carto` is open.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from xml.etree import ElementTree as ET

from flowstack.npm import node_modules
from flowstack.packages import program

VERSIONS = ("0.16.3", "1.2.0")
_FOLDERS = {"0.16.3": "carto-0.16", "1.2.0": "carto-1.2"}
_SCRIPT = Path(__file__).with_name("carto_peer.js")
_ANSWER_SECONDS = 60
_BARE_AMPERSAND = re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#\d+|#x[0-9a-fA-F]+);)")


@dataclass(frozen=True, slots=True)
class Answer:
    """What carto made of a stylesheet: the XML of a map, or its error; *seconds* are the times it took."""

    xml: str | None
    error: str | None
    seconds: tuple[float, ...] = ()


class Carto:
    """One warm process of npm carto."""

    def __init__(self, version: str) -> None:
        self.version = version
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Carto:
        folder = node_modules() / _FOLDERS[self.version]
        self._process = subprocess.Popen(
            [program("node"), str(_SCRIPT), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()

    def compile(self, css: str, *, layer_id: str, classes: tuple[str, ...] = (), repeats: int = 0) -> Answer:
        """Return what carto makes of *css*; raise `TimeoutError` where it does not come to an end."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise RuntimeError("carto is not running")
        request = {"css": css, "id": layer_id, "classes": " ".join(classes), "repeats": repeats}
        alarm = threading.Timer(_ANSWER_SECONDS, process.kill)
        alarm.start()
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        finally:
            alarm.cancel()
        if not line:
            raise TimeoutError(f"carto {self.version} did not come to an end, or stopped")
        answer = json.loads(line)
        return Answer(answer.get("xml"), answer.get("error"), tuple(answer.get("seconds", ())))


Attributes = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class PlainSymbolizer:
    name: str
    attributes: Attributes
    text: str
    children: tuple[tuple[str, Attributes], ...]


@dataclass(frozen=True, slots=True)
class PlainRule:
    max_scale: str
    min_scale: str
    filter: str
    symbolizers: tuple[PlainSymbolizer, ...]


@dataclass(frozen=True, slots=True)
class PlainStyle:
    name: str
    attributes: Attributes
    rules: tuple[PlainRule, ...]


@dataclass(frozen=True, slots=True)
class PlainMap:
    """A map without what differs in spelling only: styles in drawing order, font sets resolved, attributes sorted."""

    attributes: Attributes
    styles: tuple[PlainStyle, ...]


def plain_map(xml: str) -> PlainMap:
    """Return the comparable form of a map's XML."""
    root = ET.fromstring(_BARE_AMPERSAND.sub("&amp;", xml))  # noqa: S314  written by ourselves or by the peer
    fontsets = {
        element.get("name", ""): "; ".join(font.get("face-name", "") for font in element)
        for element in root.findall("FontSet")
    }
    by_name = {element.get("name", ""): element for element in root.findall("Style")}
    drawn = [name.text or "" for layer in root.findall("Layer") for name in layer.findall("StyleName")]
    ours = {"srs", "maximum-extent"}
    return PlainMap(
        _attributes(root.attrib, without=ours),
        tuple(_style(by_name[name], fontsets) for name in drawn),
    )


def _attributes(found: Mapping[str, str], *, without: set[str] | frozenset[str] = frozenset()) -> Attributes:
    return tuple(sorted((name, value) for name, value in found.items() if name not in without))


def _style(element: ET.Element, fontsets: Mapping[str, str]) -> PlainStyle:
    rules = tuple(_rule(rule, fontsets) for rule in element.findall("Rule"))
    attributes = _attributes(element.attrib, without={"name", "filter-mode"})
    return PlainStyle(element.get("name", ""), attributes, rules)


def _rule(element: ET.Element, fontsets: Mapping[str, str]) -> PlainRule:
    symbolizers = tuple(_symbolizer(child, fontsets) for child in element if child.tag.endswith("Symbolizer"))
    return PlainRule(
        _text(element, "MaxScaleDenominator"),
        _text(element, "MinScaleDenominator"),
        _text(element, "Filter"),
        symbolizers,
    )


def _text(element: ET.Element, tag: str) -> str:
    return (element.findtext(tag) or "").strip()


def _symbolizer(element: ET.Element, fontsets: Mapping[str, str]) -> PlainSymbolizer:
    attributes = dict(element.attrib)
    if "fontset-name" in attributes:
        attributes["fontset-name"] = fontsets[attributes["fontset-name"]]
    children = tuple((child.tag, _attributes(child.attrib)) for child in element)
    return PlainSymbolizer(element.tag, _attributes(attributes), (element.text or "").strip(), children)
