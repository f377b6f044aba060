"""Write a whole Mapnik map as XML, built as a tree and serialised by a real writer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

from flowmaps.cartocss.source import CartoError, Limits, Message
from flowmaps.cartocss.style import LayerStyle, Rule, Style, Symbolizer, scale_above

WEB_MERCATOR = "epsg:3857"


@dataclass(frozen=True, slots=True)
class MapLayer:
    """A layer of the map: its compiled style and where its features come from.

    *minzoom* and *maxzoom* bound the zooms at which it is drawn, both included.
    """

    style: LayerStyle
    datasource: Mapping[str, str] = field(default_factory=dict)
    srs: str | None = None
    minzoom: int | None = None
    maxzoom: int | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


def build_map(
    layers: Sequence[MapLayer],
    *,
    srs: str = WEB_MERCATOR,
    params: Mapping[str, str] | None = None,
    attributes: Mapping[str, str] | None = None,
    limits: Limits | None = None,
) -> str:
    """Return the XML of a map.

    Raise `CartoError` where it passes a limit, `ValueError` where two layers or two styles share a name, or where no
    files are known for the addresses of a style.
    *params* become the map's parameters, *attributes* are set on the map before those of the stylesheets.
    """
    limits = limits or Limits()
    names = [layer.style.layer_id for layer in layers]
    if len(set(names)) != len(names):
        raise ValueError(f"two layers share an id: {', '.join(names)}")
    if unfetched := [address for layer in layers for address in layer.style.addresses]:
        raise ValueError(f"no files are known for the addresses {', '.join(unfetched)}")
    styles = [style.name for layer in layers for style in layer.style.styles]
    if len(set(styles)) != len(styles):
        # A layer "a" with an attachment "b" and a layer "a-b": Mapnik would keep one of the two styles.
        raise ValueError(f"two styles share a name: {', '.join(styles)}")
    rules = sum(len(style.rules) for layer in layers for style in layer.style.styles)
    if rules > limits.rules_per_map:
        raise CartoError([Message("error", f"The map needs more than {limits.rules_per_map} rules (rules_per_map)")])
    root = ET.Element("Map", {"srs": srs, **(attributes or {})})
    for layer in layers:
        for name, value in layer.style.map_properties.items():
            root.set(name, value)
    if params:
        parent = ET.SubElement(root, "Parameters")
        for name, value in params.items():
            ET.SubElement(parent, "Parameter", {"name": name}).text = value
    fontsets: dict[tuple[str, ...], int] = {}
    for layer in layers:
        for fonts in layer.style.fontsets:
            fontsets.setdefault(fonts, len(fontsets))
    for fonts, number in fontsets.items():
        element = ET.SubElement(root, "FontSet", {"name": f"fontset-{number}"})
        for font in fonts:
            ET.SubElement(element, "Font", {"face-name": font})
    for layer in layers:
        numbers = [fontsets[fonts] for fonts in layer.style.fontsets]
        for style in layer.style.styles:
            _add_style(root, style, numbers)
    for layer in layers:
        _add_layer(root, layer)
    text = ET.tostring(root, encoding="unicode")
    if len(text.encode()) > limits.xml_bytes:
        raise CartoError([Message("error", f"The map has more than {limits.xml_bytes} bytes of XML (xml_bytes)")])
    return text


def _add_style(root: ET.Element, style: Style, fontsets: Sequence[int]) -> None:
    element = ET.SubElement(root, "Style", {"name": style.name, "filter-mode": "first", **style.attributes})
    for rule in style.rules:
        _add_rule(element, rule, fontsets)


def _add_rule(parent: ET.Element, rule: Rule, fontsets: Sequence[int]) -> None:
    element = ET.SubElement(parent, "Rule")
    for tag, text in (
        ("MaxScaleDenominator", rule.max_scale),
        ("MinScaleDenominator", rule.min_scale),
        ("Filter", rule.filter or None),
    ):
        if text is not None:
            ET.SubElement(element, tag).text = text
    for symbolizer in rule.symbolizers:
        _add_symbolizer(element, symbolizer, fontsets)


def _add_symbolizer(parent: ET.Element, symbolizer: Symbolizer, fontsets: Sequence[int]) -> None:
    attributes = dict(symbolizer.attributes)
    if symbolizer.fontset is not None:
        attributes["fontset-name"] = f"fontset-{fontsets[symbolizer.fontset]}"
    element = ET.SubElement(parent, symbolizer.name, attributes)
    if symbolizer.text is not None:
        element.text = symbolizer.text
    for stop in symbolizer.stops:
        ET.SubElement(element, "stop", dict(stop))


def _add_layer(root: ET.Element, layer: MapLayer) -> None:
    attributes = {"name": layer.style.layer_id, **layer.attributes}
    if layer.srs is not None:
        attributes["srs"] = layer.srs
    if layer.minzoom is not None and layer.minzoom > 0:
        attributes["maximum-scale-denominator"] = scale_above(min(layer.minzoom, 26))
    if layer.maxzoom is not None and 0 <= layer.maxzoom < 26:
        attributes["minimum-scale-denominator"] = scale_above(layer.maxzoom + 1)
    element = ET.SubElement(root, "Layer", attributes)
    for style in layer.style.styles:
        ET.SubElement(element, "StyleName").text = style.name
    if layer.datasource:
        source = ET.SubElement(element, "Datasource")
        for name, value in layer.datasource.items():
            ET.SubElement(source, "Parameter", {"name": name}).text = value
