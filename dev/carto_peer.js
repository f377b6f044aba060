// Compile stylesheets with one version of npm carto: JSON lines in, JSON lines out, in one warm process.
// Usage: node carto_peer.js FOLDER_OF_CARTO
// In:  {"css": text, "id": layer id, "classes": "a b", "repeats": n}   (repeats: time n compilations as well)
// Out: {"xml": text, "seconds": [..]} or {"error": text}
'use strict';
const path = require('path');
const readline = require('readline');
const folder = path.resolve(process.argv[2]);
const carto = require(folder);
const version = require(path.join(folder, 'package.json')).version;
const modern = !version.startsWith('0.');

function compile(css, id, classes) {
  const map = {
    srs: 'epsg:3857',
    Stylesheet: [{ id: 'style0', data: css }],
    Layer: [{ id, name: id, class: classes || '', srs: 'epsg:3857', Datasource: { type: 'csv' } }],
  };
  if (modern) {
    const done = new carto.Renderer({ quiet: true, version: '3.0.22', ppi: 90.714 }).render(map);
    if (!done.data) {
      const messages = (done.msg || []).filter((entry) => entry.type === 'error').map((entry) => entry.message);
      throw new Error(messages.join('\n') || 'no output');
    }
    return done.data;
  }
  return new carto.Renderer({ ppi: 90.714 }, { mapnik_version: '3.0.6' }).render(map);
}

function message(error) {
  const list = Array.isArray(error) ? error : [error];
  return list.map((entry) => (entry && entry.message) || String(entry)).join('\n');
}

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const asked = JSON.parse(line);
  const answer = {};
  try {
    answer.xml = compile(asked.css, asked.id, asked.classes);
    if (asked.repeats) {
      answer.seconds = [];
      for (let i = 0; i < asked.repeats; i += 1) {
        const start = process.hrtime.bigint();
        compile(asked.css, asked.id, asked.classes);
        answer.seconds.push(Number(process.hrtime.bigint() - start) / 1e9);
      }
    }
  } catch (error) {
    delete answer.xml;
    answer.error = message(error);
  }
  process.stdout.write(JSON.stringify(answer) + '\n');
});
