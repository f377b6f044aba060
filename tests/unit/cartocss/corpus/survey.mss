//// one survey
#pts {
  marker-placement: point;
  marker-type: ellipse;
  marker-allow-overlap: true;
  marker-line-width: 1;
  marker-line-color: #fff;
  marker-fill: #3e7bb6;
  marker-width: 9;
}
//// surveys by id
#pts[survey_id = '152342023'] { marker-fill: #1b9e77; }
#pts[survey_id = '148412306'] { marker-fill: #d95f02; }
#pts[survey_id = '146532024'] { marker-fill: #7570b3; }
#pts { marker-width: 8; marker-allow-overlap: true; }
//// state and age
@good: #2ca25f; @poor: #de2d26;
#pts {
  marker-width: 6;
  marker-fill: #bbb;
  [functional = true] { marker-fill: @good; }
  [functional = false] { marker-fill: @poor; }
  [functional = null] { marker-fill: #fff; marker-line-color: #666; }
  [age > 10] { marker-fill-opacity: 0.6; }
}
//// names by pattern
#pts {
  marker-width: 5;
  [name =~ 'School.*'] { marker-fill: #ff7f00; }
  [name =~ '.*(clinic|hospital).*'] { marker-fill: #e41a1c; }
  [name =~ '(?i)water.*'] { marker-fill: #377eb8; }
}
//// all in one block
#pts{marker-width:10;marker-fill:#e00050;marker-line-color:#fff;marker-line-width:1.5;marker-fill-opacity:.9;marker-comp-op:multiply;marker-allow-overlap:true}
//// selected one
#pts { marker-width: 8; marker-fill: #666; }
#pts[identifier = 'b1m2-xk7p-9q0z'] { marker-width: 16; marker-fill: #f00; }
//// selected by many
#pts[identifier='a'],#pts[identifier='b'],#pts[identifier='c'],#pts[identifier='d'],#pts[identifier='e'] { marker-width: 16; }
#pts { marker-width: 8; marker-fill: #666; }
//// only near
#pts[zoom > 11] { marker-width: 8; }
#pts[zoom <= 11] { marker-width: 3; marker-line-width: 0; }
