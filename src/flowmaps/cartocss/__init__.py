"""Compile CartoCSS to Mapnik styles, in pure Python.

`compile_layer` turns one layer's stylesheet into a `LayerStyle`; `build_map` writes the XML of a whole map;
`evaluate` says directly what a stylesheet means for one feature. Nothing here needs Mapnik.
"""

from flowmaps.cartocss.compiler import Drawn, compile_layer, evaluate
from flowmaps.cartocss.emit import MapLayer, build_map
from flowmaps.cartocss.source import CartoError, Limits, Message
from flowmaps.cartocss.style import LayerStyle, Rule, Style, Symbolizer
from flowmaps.cartocss.torque import TorqueStyle, compile_torque
from flowmaps.cartocss.versions import upgrade

__all__ = [
    "CartoError",
    "Drawn",
    "LayerStyle",
    "Limits",
    "MapLayer",
    "Message",
    "Rule",
    "Style",
    "Symbolizer",
    "TorqueStyle",
    "build_map",
    "compile_layer",
    "compile_torque",
    "evaluate",
    "upgrade",
]
