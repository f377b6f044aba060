// Maps to begin with. Each is a whole MapConfig.

const NAMES = "select *, properties->>'displayName' as name, properties->>'sublevel1' as country from datapoint";
const SHOWN = ["name", "country", "survey_id", "identifier"];

function mapConfig(options) {
  return { version: "1.5.0", layers: [{ type: "mapnik", options }] };
}

export const SAMPLES = [
  {
    title: "All points, one colour",
    config: mapConfig({
      sql: NAMES,
      cartocss: [
        "#points {",
        "  marker-width: 5; marker-fill: #12685c; marker-allow-overlap: true;",
        "  marker-line-color: #fff; marker-line-width: 0.5;",
        "  [zoom >= 7] { marker-width: 9; }",
        "}",
      ].join("\n"),
      cartocss_version: "3.0.12",
      interactivity: SHOWN,
    }),
  },
  {
    title: "Coloured by survey",
    config: mapConfig({
      sql: `${NAMES} order by survey_id`,
      cartocss: [
        "@village: #4a8f7f; @town: #e08214; @city: #b2184b;",
        "#points {",
        "  marker-width: 4; marker-fill: @village; marker-allow-overlap: true;",
        "  marker-line-color: #fff; marker-line-width: 0.5;",
        "  [survey_id = '3002'] { marker-fill: @town; marker-width: 6; }",
        "  [survey_id = '3003'] { marker-fill: @city; marker-width: 9; }",
        "}",
      ].join("\n"),
      cartocss_version: "3.0.12",
      interactivity: SHOWN,
    }),
  },
  {
    title: "Names from zoom 8",
    config: mapConfig({
      sql: NAMES,
      cartocss: [
        "#points {",
        "  marker-width: 5; marker-fill: #2c5f8a; marker-allow-overlap: true; marker-line-width: 0;",
        "  [zoom >= 8] {",
        "    marker-width: 8;",
        '    text-name: [name]; text-face-name: "DejaVu Sans Book"; text-size: 11; text-dy: 9;',
        "    text-fill: #1d2b2a; text-halo-fill: #ffffff; text-halo-radius: 1.5;",
        "  }",
        "}",
      ].join("\n"),
      cartocss_version: "3.0.12",
      interactivity: SHOWN,
    }),
  },
  {
    title: "One survey, style of Mapnik 2.0",
    config: mapConfig({
      sql: "select * from datapoint where survey_id='3002'",
      geom_column: "geom",
      srid: 4326,
      cartocss: "#s { marker-width: 10; marker-fill: #e00050; }",
      cartocss_version: "2.0.0",
      interactivity: "identifier",
    }),
  },
];
