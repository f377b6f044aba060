//// plain line
#pts {
  line-color: #594;
  line-width: 0.5;
}
//// roads with casing
#pts {
  ::case {
    line-width: 5;
    line-color: #d83;
    line-cap: round;
    line-join: round;
  }
  ::fill {
    line-width: 2.5;
    line-color: #fe3;
    line-cap: round;
    line-join: round;
  }
}
//// roads by class and zoom
@motorway: #fc8;
@main: #fea;
@street: #fff;
@case: 0.4;
#pts[zoom >= 5] {
  [class = 'motorway'] { line-color: @motorway; line-width: 1; }
  [class = 'main'][zoom >= 8] { line-color: @main; line-width: 1; }
  [class = 'street'][zoom >= 12] { line-color: @street; line-width: 1; }
}
#pts[zoom >= 10] {
  [class = 'motorway'] { line-width: 3; case/line-width: 3 + @case * 2; case/line-color: darken(@motorway, 20%); }
  [class = 'main'] { line-width: 2; case/line-width: 2 + @case * 2; case/line-color: darken(@main, 20%); }
}
//// dashed railway
#pts[type = 'rail'] {
  line-width: 3;
  line-color: #888;
  dash/line-width: 1;
  dash/line-color: #fff;
  dash/line-dasharray: 8, 8;
  dash/line-cap: butt;
}
//// rivers
#pts {
  line-color: #6baed6;
  line-width: 0.5;
  line-smooth: 0.4;
  [order >= 3] { line-width: 1; }
  [order >= 5] { line-width: 2; line-color: darken(#6baed6, 10%); }
  [intermittent = true] { line-dasharray: 4, 2; }
}
//// arrows along a line
#pts {
  line-width: 1;
  marker-file: url(shape://arrow);
  marker-placement: line;
  marker-spacing: 60;
  marker-fill: #333;
  marker-width: 8;
  [oneway = -1] { marker-transform: rotate(180); }
}
//// patterns
#pts {
  line-pattern-file: url(marker.png);
  line-pattern-opacity: 0.7;
  [a = 1] { line-pattern-file: url('patterns/wave.png'); line-pattern-smooth: 0.2; }
}
//// borders in three lines
#pts[admin_level = 2] {
  a/line-width: 6; a/line-color: #eee; a/line-opacity: 0.5;
  b/line-width: 3; b/line-color: #aaa;
  c/line-width: 1; c/line-color: #333; c/line-dasharray: 10, 3, 2, 3;
}
//// contour lines
#pts {
  line-color: #a6764a;
  line-width: 0.4;
  [index = 5] { line-width: 1; }
  [zoom < 12] { line-opacity: 0.5; }
}
//// offset lines
#pts {
  l/line-width: 1; l/line-offset: -3; l/line-color: #00f;
  r/line-width: 1; r/line-offset: 3; r/line-color: #f00;
}
//// simplified by zoom
#pts {
  line-width: 1;
  [zoom < 8] { line-simplify: 4; line-simplify-algorithm: visvalingam-whyatt; }
  [zoom >= 8][zoom < 12] { line-simplify: 1; line-simplify-algorithm: radial-distance; }
}
