"""Resolve TurboCARTO's ramps: ``marker-fill: ramp([price], colorbrewer(Reds), quantiles(5))`` becomes plain CartoCSS.

Pure: `read_ramps` finds the ramps of a stylesheet and says what must be known of the data (`Question`);
`Stylesheet.resolve` puts the answers (`Classes`) in. Who asks the data is no matter of this package.
Semantics: turbo-carto 0.21, as Windshaft-cartodb runs it.
"""

from flowmaps.turbocarto.breaks import Bin, head_tail_breaks, natural_breaks
from flowmaps.turbocarto.ramps import METHODS, Classes, Question, Resolved, Stylesheet, read_ramps

__all__ = [
    "METHODS",
    "Bin",
    "Classes",
    "Question",
    "Resolved",
    "Stylesheet",
    "head_tail_breaks",
    "natural_breaks",
    "read_ramps",
]
