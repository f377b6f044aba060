//// plain label
#pts {
  text-name: [name];
  text-face-name: 'DejaVu Sans Book';
}
//// label of an expression string
#pts {
  text-name: "[name]";
  text-face-name: "DejaVu Sans Book";
  text-size: 11;
  text-fill: #036;
  text-halo-fill: rgba(255, 255, 255, 0.8);
  text-halo-radius: 2;
}
//// label of two fields
#pts {
  text-name: [name] + ' (' + [year] + ')';
  text-face-name: "DejaVu Sans Bold", "DejaVu Sans Book";
  text-wrap-width: 60;
  text-wrap-before: true;
  text-line-spacing: 2;
  text-character-spacing: 1;
}
//// labels along lines
#pts {
  text-name: [ref];
  text-face-name: "DejaVu Sans Book";
  text-placement: line;
  text-spacing: 200;
  text-max-char-angle-delta: 30;
  text-min-path-length: 40;
  text-dy: 6;
  text-upright: auto;
}
//// labels by rank
@regular: "DejaVu Sans Book";
@bold: "DejaVu Sans Bold";
#pts[rank <= 2][zoom >= 4], #pts[rank = 3][zoom >= 7], #pts[zoom >= 10] {
  text-name: [name];
  text-face-name: @regular;
  text-size: 10;
  [rank = 1] { text-face-name: @bold; text-size: 14; text-transform: uppercase; }
  [rank = 2] { text-size: 12; }
}
//// shields
#pts {
  shield-name: [ref];
  shield-face-name: "DejaVu Sans Bold";
  shield-file: url(marker.png);
  shield-size: 8;
  shield-fill: #fff;
  shield-min-padding: 4;
  shield-placement: line;
  shield-spacing: 300;
  [class = 'motorway'] { shield-file: url(shields/motorway.png); }
}
//// two labels of one feature
#pts {
  name/text-name: [name];
  name/text-face-name: "DejaVu Sans Bold";
  name/text-dy: -8;
  value/text-name: [value];
  value/text-face-name: "DejaVu Sans Book";
  value/text-dy: 8;
}
//// alignment and offsets
#pts {
  text-name: [name];
  text-face-name: "DejaVu Sans Book";
  text-horizontal-alignment: left;
  text-vertical-alignment: top;
  text-align: center;
  text-dx: 4px;
  text-dy: -4px;
  text-orientation: [angle];
  text-allow-overlap: true;
  text-avoid-edges: true;
}
//// labels from field arithmetic
#pts {
  text-name: "[users] * 2";
  text-face-name: "DejaVu Sans Book";
  text-opacity: 0.5;
  text-halo-opacity: 0.25;
  text-halo-rasterizer: fast;
}
//// no label below a zoom
#pts {
  text-name: [name];
  text-face-name: "DejaVu Sans Book";
  text-size: 9;
  [zoom < 6] { text-size: 0; }
  [zoom >= 6][zoom < 10] { text-size: 9; }
  [zoom >= 10] { text-size: 12; text-fill: #333; }
}
