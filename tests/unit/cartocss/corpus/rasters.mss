//// plain raster
#pts { raster-opacity: 1; }
//// scaled raster
#pts {
  raster-opacity: 0.8;
  raster-scaling: lanczos;
  raster-filter-factor: 2;
  raster-mesh-size: 32;
  raster-comp-op: multiply;
}
//// elevation
#pts {
  raster-colorizer-default-mode: linear;
  raster-colorizer-default-color: transparent;
  raster-colorizer-epsilon: 0.4;
  raster-colorizer-stops:
    stop(0, #47443e)
    stop(50, #77654a)
    stop(100, rgb(85, 107, 50))
    stop(200, #878c3c, linear)
    stop(255, white, exact);
}
//// hillshade by zoom
#pts {
  raster-scaling: near;
  raster-opacity: 0.6;
  [zoom >= 9] { raster-scaling: bilinear; }
  [zoom >= 13] { raster-opacity: 0.3; }
  comp-op: hard-light;
}
