"""Compile CartoCSS to Mapnik styles, in pure Python.

`compile_layer` turns the stylesheet of one layer of a MapConfig into a `LayerStyle`, `compile_style` one stylesheet
into the styles of its layers; `build_map` writes the XML of a whole map. `bind_variables` fills render variables in.
`parse` returns the tree, `columns` the fields that a style names, `property_named` what is known of a property, and
`evaluate` says directly what a stylesheet means for one feature. Nothing here needs Mapnik.
"""

from flowmaps.cartocss.check import CheckAddress, RefusedResource, is_address, listed_assets, relative_names
from flowmaps.cartocss.compiler import FALLBACK_FONT, Drawn, compile_layer, compile_style, evaluate
from flowmaps.cartocss.emit import MapLayer, build_map
from flowmaps.cartocss.reference import Property, Reference, load_reference, property_named
from flowmaps.cartocss.source import CartoError, Limits, Message
from flowmaps.cartocss.style import LayerStyle, Rule, Style, Symbolizer
from flowmaps.cartocss.stylesheet import columns, parse
from flowmaps.cartocss.torque import TorqueStyle, compile_torque
from flowmaps.cartocss.variables import bind_variables, uses_variables
from flowmaps.cartocss.versions import upgrade

__all__ = [
    "FALLBACK_FONT",
    "CartoError",
    "CheckAddress",
    "Drawn",
    "LayerStyle",
    "Limits",
    "MapLayer",
    "Message",
    "Property",
    "Reference",
    "RefusedResource",
    "Rule",
    "Style",
    "Symbolizer",
    "TorqueStyle",
    "bind_variables",
    "build_map",
    "columns",
    "compile_layer",
    "compile_style",
    "compile_torque",
    "evaluate",
    "is_address",
    "listed_assets",
    "load_reference",
    "parse",
    "property_named",
    "relative_names",
    "upgrade",
    "uses_variables",
]
