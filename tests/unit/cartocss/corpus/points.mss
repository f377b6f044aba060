//// plain markers
#pts {
  marker-width: 10;
  marker-fill: #e00050;
}
//// markers with an outline
#pts {
  marker-fill: #1f78b4;
  marker-fill-opacity: 0.8;
  marker-line-color: #ffffff;
  marker-line-width: 1.5;
  marker-line-opacity: 1;
  marker-placement: point;
  marker-type: ellipse;
  marker-allow-overlap: true;
}
//// water points by status
@working: #33a02c;
@broken: #e31a1c;
@unknown: #999999;
#pts {
  marker-width: 8;
  marker-fill: @unknown;
  marker-allow-overlap: true;
  [status = 'working'] { marker-fill: @working; }
  [status = 'needs repair'] { marker-fill: mix(@working, @broken, 50%); }
  [status = 'broken'] { marker-fill: @broken; marker-width: 10; }
}
//// bubbles by number of users
#pts {
  marker-width: 4;
  marker-fill: fadeout(#3366cc, 40%);
  marker-line-color: darken(#3366cc, 20%);
  [users > 50] { marker-width: 8; }
  [users > 100] { marker-width: 12; }
  [users > 500] { marker-width: 18; }
  [users > 1000] { marker-width: 26; }
}
//// size by zoom
#pts {
  marker-width: 2;
  [zoom >= 6] { marker-width: 3; }
  [zoom >= 9] { marker-width: 5; }
  [zoom >= 12] { marker-width: 8; marker-line-width: 1; }
  [zoom >= 15] { marker-width: 12; marker-line-width: 2; }
}
//// glow below markers
#pts::glow {
  marker-width: 24;
  marker-fill: #ffcc00;
  marker-fill-opacity: 0.2;
  marker-line-width: 0;
  marker-allow-overlap: true;
  comp-op: screen;
}
#pts {
  marker-width: 6;
  marker-fill: #ffcc00;
  marker-allow-overlap: true;
}
//// heat by blending
#pts {
  marker-file: url('shape://ellipse');
  marker-fill: #ff3300;
  marker-fill-opacity: 0.05;
  marker-width: 40;
  marker-line-width: 0;
  marker-allow-overlap: true;
  image-filters: colorize-alpha(blue, cyan, green, yellow, orange, red);
  opacity: 0.8;
}
//// categories of two fields
#pts {
  marker-width: 7;
  marker-fill: #cccccc;
  [type = 'well'] { marker-fill: #1f78b4; }
  [type = 'tap'] { marker-fill: #33a02c; }
  [type = 'spring'] { marker-fill: #6a3d9a; }
  [year < 2000] { marker-line-color: #000; marker-line-width: 2; }
  [year >= 2000][year < 2010] { marker-line-color: #666; marker-line-width: 1; }
}
//// icons by kind
#pts {
  marker-file: url(icons/default.svg);
  marker-transform: "scale(0.5)";
  [kind = 'school'] { marker-file: url(icons/school.svg); }
  [kind = 'clinic'] { marker-file: url(icons/clinic.svg); marker-transform: scale(0.8), rotate([angle]); }
}
//// values taken from the data
#pts {
  marker-width: [size];
  marker-height: [size] * 0.5;
  marker-fill: [colour];
  marker-fill-opacity: [share] / 100;
  marker-transform: rotate([angle]);
}
//// points and their labels
#pts {
  marker-width: 5;
  marker-fill: #08519c;
  [zoom >= 10] {
    text-name: [name];
    text-face-name: 'DejaVu Sans Book';
    text-size: 10;
    text-dy: -8;
    text-halo-fill: #fff;
    text-halo-radius: 1.5;
  }
}
//// three symbolizers in one rule
#pts {
  point-file: url(marker.png);
  point-allow-overlap: true;
  dot-width: 2;
  dot-fill: #000;
  marker-width: 3;
}
//// instances in order
#pts {
  outer/marker-width: 14;
  outer/marker-fill: #ffffff;
  inner/marker-width: 8;
  inner/marker-fill: #d7301f;
  [highlighted = true] {
    outer/marker-fill: #ffff00;
    ring/marker-width: 20;
    ring/marker-fill-opacity: 0;
  }
}
//// density by geometry type
#pts["mapnik::geometry_type" = 1] { marker-width: 4; marker-fill: red; }
#pts["mapnik::geometry_type" = 2] { line-width: 2; line-color: green; }
#pts["mapnik::geometry_type" = 3] { polygon-fill: blue; line-width: 1; }
//// clustering by count
#pts {
  marker-fill: #5ca2d1;
  marker-width: 12;
  [count > 1] { marker-width: 18; marker-fill: #8856a7; }
  [count > 10] { marker-width: 26; marker-fill: #810f7c; }
  [count > 100] { marker-width: 34; marker-fill: #4d004b; }
  ::labels[count > 1] {
    text-name: [count];
    text-face-name: 'DejaVu Sans Bold';
    text-fill: white;
    text-size: 9;
    text-allow-overlap: true;
  }
}
//// newest first
#pts[days <= 1] { marker-fill: #bd0026; }
#pts[days > 1][days <= 7] { marker-fill: #f03b20; }
#pts[days > 7][days <= 30] { marker-fill: #fd8d3c; }
#pts[days > 30] { marker-fill: #fecc5c; }
#pts { marker-width: 6; }
