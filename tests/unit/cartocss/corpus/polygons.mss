//// plain polygon
#pts {
  polygon-fill: #ae8;
  polygon-opacity: 0.6;
  line-color: #594;
  line-width: 0.5;
}
//// choropleth, loosest first
#pts {
  polygon-fill: #f7fbff;
  line-color: #fff;
  line-width: 0.3;
  [pop > 100] { polygon-fill: #c6dbef; }
  [pop > 1000] { polygon-fill: #6baed6; }
  [pop > 10000] { polygon-fill: #2171b5; }
  [pop > 100000] { polygon-fill: #08306b; }
}
//// choropleth, tightest last and from above
#pts {
  polygon-fill: #800026;
  [pop <= 100000] { polygon-fill: #bd0026; }
  [pop <= 10000] { polygon-fill: #e31a1c; }
  [pop <= 1000] { polygon-fill: #fc4e2a; }
  [pop <= 100] { polygon-fill: #ffffb2; }
}
//// choropleth of variables
@c1: #ffffcc; @c2: #a1dab4; @c3: #41b6c4; @c4: #225ea8;
@b1: 10; @b2: 20; @b3: 30;
#pts[share < @b1] { polygon-fill: @c1; }
#pts[share >= @b1][share < @b2] { polygon-fill: @c2; }
#pts[share >= @b2][share < @b3] { polygon-fill: @c3; }
#pts[share >= @b3] { polygon-fill: @c4; }
#pts { line-color: darken(@c4, 10%); line-width: 0.5; }
//// land use
@forest: #add19e; @water: #b5d0d0; @urban: #ddd;
#pts {
  [use = 'forest'] { polygon-fill: @forest; }
  [use = 'water'], [use = 'lake'], [use = 'river'] { polygon-fill: @water; line-color: darken(@water, 20%); line-width: 0.4; }
  [use = 'urban'] { polygon-fill: @urban; [zoom >= 14] { polygon-fill: lighten(@urban, 5%); } }
  [use != 'forest'][use != 'water'] { polygon-gamma: 0.7; }
}
//// inner shadow by attachments
#pts::shadow { polygon-fill: #000; polygon-opacity: 0.2; image-filters: agg-stack-blur(4, 4); polygon-geometry-transform: translate(3, 3); }
#pts::body { polygon-fill: #fff; }
#pts::edge { line-width: 1; line-color: #000; }
//// patterns by kind
#pts {
  polygon-pattern-file: url(patterns/grass.png);
  polygon-pattern-alignment: global;
  [kind = 'swamp'] { polygon-pattern-file: url(patterns/swamp.png); }
}
//// buildings
#pts[zoom >= 14] {
  building-fill: #d9d0c9;
  building-height: [levels] * 3;
  building-fill-opacity: 0.9;
}
//// mask with a composition mode
#pts { polygon-fill: #000; polygon-comp-op: dst-out; }
//// missing values apart
#pts {
  polygon-fill: #eee;
  [value != null] { polygon-fill: #fdd0a2; }
  [value > 5] { polygon-fill: #fd8d3c; }
  [value = null] { line-dasharray: 2, 2; line-width: 1; }
}
//// by class and id
.area { polygon-fill: #ccc; line-width: 1; }
.area.pts { polygon-fill: #bbb; }
#pts { polygon-fill: #aaa; }
#pts.area[a = 1] { polygon-fill: #999; }
//// a map with its background
Map { background-color: #b8dee6; buffer-size: 128; }
#pts { polygon-fill: #fff; line-width: 2; line-color: #85c5d3; }
