//// variable defined twice
@w: 2;
#pts { marker-width: @w; }
@w: 5;
//// special characters in a filter
#pts[name = "R&B <x>"] { marker-width: 2; }
//// percentage on a ratio
#pts { marker-opacity: 50%; }
//// inches
#pts { marker-width: 0.1in; }
//// parentheses around fields
#pts { marker-width: ([users] + 1) * 2; }
//// negated variable
@a: 3;
#pts { text-name: [n]; text-face-name: 'DejaVu Sans Book'; text-dx: -@a; }
//// unequal and range of one field
#pts[n != 4] { marker-fill: #0f0; }
#pts[n >= 4] { marker-width: 9; }
#pts { marker-line-width: 1; }
//// regular expression beside an equality
#pts[a =~ "x.*"] { marker-width: 2; [a = "xy"] { marker-fill: red; } }
//// looser bound after a tighter one
#pts[a > 8][a > 5] { marker-width: 2; }
//// text beside a number
#pts[a = '1'] { marker-width: 2; }
#pts[a = 1] { marker-fill: red; }
//// all zooms but one
#pts[zoom != 5] { marker-width: 2; }
//// any layer
* { marker-width: 2; }
//// transforms between blanks
#pts { marker-transform: scale(2) rotate(45); }
//// image filters twice
#pts { marker-width: 2; image-filters: gray(); [a = 1] { image-filters: gray(); } }
//// comment inside a value
#pts { marker-width: /* pixels */ 2; }
//// colour with alpha digits
#pts { marker-fill: #ff000080; }
//// perceptual colour
#pts { marker-fill: hsluv(120, 50%, 50%); a/marker-fill: lightenp(#f80, 10%); }
//// perceptual colour by its old name
#pts { marker-fill: husl(120, 50%, 50%); }
//// rgb of percentages
#pts { marker-fill: rgb(100%, 50%, 0%); }
//// style level under a filter
#pts { marker-width: 4; comp-op: multiply; [kind = "a"] { comp-op: screen; opacity: .5; } }
//// automatic direction
#pts { marker-direction: auto; polygon-gamma-method: none; }
//// text that is no expression
#pts { text-name: "Wells of [region]"; text-face-name: "DejaVu Sans Book"; }
//// fast raster scaling
#pts { raster-scaling: fast; }
//// placements without their type
#pts { text-name: [n]; text-face-name: "DejaVu Sans Book"; text-placements: "N,S,10"; }
//// dense markers
#pts { marker-width: 2; marker-spacing: 0.25; }
//// halo of shields
#pts {
  shield-file: url(marker.png); shield-face-name: "DejaVu Sans Book"; shield-name: [n];
  shield-halo-transform: scale(2);
  [a = 1] { shield-halo-comp-op: multiply; }
}
//// declared for an impossible combination
#pts[a = 1] { marker-width: 2; [a != 1] { marker-fill: red; } }
//// rules that cannot be reached
#pts { marker-width: 1; [n > 1] { marker-width: 2; } [n > 0] { marker-width: 3; } }
//// expression in a filter
#pts[[a] % 2 = 0] { marker-width: 2; }
//// symbolizer switches
#pts { line: none; line-width: 2; marker: auto; [a = 1] { line-color: #f00; } }
//// unsigned from a string
#pts { text-name: [n]; text-face-name: "DejaVu Sans Book"; text-wrap-width: "[w]*2"; }
//// unsigned from a field
#pts { text-name: [n]; text-face-name: "DejaVu Sans Book"; text-wrap-width: [w]; }
//// dashes from a field
#pts { line-width: 1; line-dasharray: [d]; }
//// greyscale
#pts { marker-fill: greyscale(#f80); }
//// empty block
#pts { [a = 1] { } marker-width: 2; }
