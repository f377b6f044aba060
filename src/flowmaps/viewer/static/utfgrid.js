// A Leaflet layer that knows what is under the pointer, from UTFGrid tiles.
// Source of the encoding: UTFGrid specification 1.3.

const CELLS = 64;
const KEPT_TILES = 400;

/** Return the attributes at a cell of a decoded grid, or null. */
export function lookUp(grid, column, row) {
  let code = grid.grid[row]?.codePointAt?.(column);
  if (code === undefined) return null;
  if (code >= 93) code -= 1;
  if (code >= 35) code -= 1;
  const key = grid.keys[code - 32];
  return key ? grid.data[key] ?? null : null;
}

/** The grids of one layer of a map; `at` answers what is at a point, loading the tile where needed. */
export class Grids {
  constructor(layergroupid, layer, onError) {
    this.prefix = `/layergroup/${layergroupid}/${layer}`;
    this.tiles = new Map();
    this.onError = onError;
  }

  async load(z, x, y) {
    const name = `${z}/${x}/${y}`;
    if (!this.tiles.has(name)) {
      if (this.tiles.size >= KEPT_TILES) this.tiles.delete(this.tiles.keys().next().value);
      this.tiles.set(name, this.fetch(name));
    }
    return this.tiles.get(name);
  }

  async fetch(name) {
    try {
      const answer = await fetch(`${this.prefix}/${name}.grid.json`);
      if (answer.ok) return await answer.json();
      const body = await answer.json().catch(() => null);
      this.onError(body?.errors?.[0] ?? `A grid answers ${answer.status}.`);
    } catch {
      this.onError("The server does not answer.");
    }
    this.tiles.delete(name);
    return null;
  }

  /** Return the attributes at a place of the map, or null. */
  async at(map, latlng) {
    const z = Math.round(map.getZoom());
    const point = map.project(latlng, z);
    const side = 256;
    const world = 2 ** z;
    const x = Math.floor(point.x / side);
    const y = Math.floor(point.y / side);
    if (y < 0 || y >= world) return null;
    const grid = await this.load(z, ((x % world) + world) % world, y);
    if (!grid) return null;
    const column = Math.floor((point.x - x * side) / (side / CELLS));
    const row = Math.floor((point.y - y * side) / (side / CELLS));
    return lookUp(grid, column, row);
  }
}
