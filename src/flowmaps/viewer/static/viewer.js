// The page: the form on the left, the map on the right, and the address that can be shared.

import "./vendor/leaflet/leaflet.js";
import { ApiError, createMap, describeMap, fetchToken } from "./api.js";
import { SAMPLES } from "./samples.js";
import { Grids } from "./utfgrid.js";

const L = window.L;
const byId = (id) => document.getElementById(id);
const state = { layergroupid: null, tiles: null, grids: [], hover: 0 };

// --- the map

const map = L.map("map", { minZoom: 1, maxZoom: 20, worldCopyJump: true, zoomSnap: 1, attributionControl: true });
map.attributionControl.setPrefix(false);
map.setView([10, 10], 2);
map.createPane("land").style.zIndex = 100;
const tooltip = L.tooltip({ className: "hovered", direction: "top", offset: [0, -6] });

async function showLand() {
  try {
    const answer = await fetch("vendor/land/land.json");
    if (!answer.ok) throw new Error(String(answer.status));
    const style = { fillColor: "#eeebe1", fillOpacity: 1, color: "#b9b6a8", weight: 0.7, interactive: false };
    L.geoJSON(await answer.json(), {
      style, pane: "land", interactive: false, renderer: L.canvas({ pane: "land", padding: 0.3 }),
      attribution: "Land: Natural Earth",
    }).addTo(map);
  } catch {
    sayMapError("The land in the background could not be loaded.");
  }
}

let errorTimer = 0;
function sayMapError(message) {
  const element = byId("map-error");
  element.textContent = message;
  element.hidden = false;
  clearTimeout(errorTimer);
  errorTimer = setTimeout(() => { element.hidden = true; }, 12000);
}

async function tileError(event) {
  try {
    const answer = await fetch(event.tile.src);
    if (answer.ok) return;
    const body = await answer.json();
    sayMapError(body.errors?.[0] ?? `A tile answers ${answer.status}.`);
  } catch {
    sayMapError("A tile could not be loaded: the server does not answer.");
  }
}

function show(described, keepPosition) {
  state.layergroupid = described.layergroupid;
  state.tiles?.remove();
  closeFeature();
  byId("map-error").hidden = true;
  const retina = L.Browser.retina ? "@2x" : "";
  const url = `/layergroup/${described.layergroupid}/{z}/{x}/{y}${retina}.png`;
  state.tiles = L.tileLayer(url, { maxZoom: 20, className: "points" }).on("tileerror", tileError).addTo(map);
  state.grids = described.metadata.layers
    .map((layer, index) => (layer.interactivity?.length ? new Grids(described.layergroupid, index, sayMapError) : null))
    .filter(Boolean)
    .reverse();
  if (!keepPosition) fit(described.metadata.bounds);
  const updated = new Date(described.last_updated);
  byId("updated").textContent = `Data as of ${updated.toLocaleString()}`;
  byId("share").disabled = false;
  writeAddress();
}

function fit(bounds) {
  if (!bounds) return;
  const [west, south, east, north] = bounds;
  map.fitBounds([[Math.max(south, -84), west], [Math.min(north, 84), east]], { padding: [24, 24], maxZoom: 14, animate: false });
}

// --- what is under the pointer

async function find(latlng) {
  for (const grid of state.grids) {
    const found = await grid.at(map, latlng);
    if (found) return found;
  }
  return null;
}

function titleOf(attributes) {
  const first = attributes.name ?? Object.values(attributes).find((value) => value !== null && value !== "");
  return String(first ?? "Datapoint");
}

map.on("mousemove", async (event) => {
  if (!state.grids.length) return;
  const turn = ++state.hover;
  const found = await find(event.latlng);
  if (turn !== state.hover) return;
  byId("map").classList.toggle("pointing", Boolean(found));
  if (found) {
    const content = document.createElement("span");
    content.textContent = titleOf(found);
    tooltip.setLatLng(event.latlng).setContent(content).addTo(map);
  } else {
    tooltip.remove();
  }
});
map.on("mouseout", () => { state.hover += 1; tooltip.remove(); });

map.on("click", async (event) => {
  const found = await find(event.latlng);
  if (found) openFeature(found);
  else closeFeature();
});

function openFeature(attributes) {
  byId("feature-title").textContent = titleOf(attributes);
  const list = byId("feature-values");
  list.replaceChildren();
  for (const [name, value] of Object.entries(attributes)) {
    const term = document.createElement("dt");
    const description = document.createElement("dd");
    term.textContent = name;
    description.textContent = value === null ? "—" : String(value);
    list.append(term, description);
  }
  byId("feature").hidden = false;
}

function closeFeature() {
  byId("feature").hidden = true;
}

byId("feature-close").addEventListener("click", closeFeature);
document.addEventListener("keydown", (event) => { if (event.key === "Escape") closeFeature(); });

// --- the address

function writeAddress() {
  if (!state.layergroupid) return;
  const { lat, lng } = map.getCenter();
  const position = `${map.getZoom()}/${lat.toFixed(5)}/${lng.toFixed(5)}`;
  history.replaceState(null, "", `#${state.layergroupid}/${position}`);
}

map.on("moveend", writeAddress);

async function readAddress() {
  const [layergroupid, z, lat, lng] = decodeURIComponent(location.hash.slice(1)).split("/");
  if (!layergroupid || layergroupid === state.layergroupid) return;
  try {
    const described = await describeMap(layergroupid);
    const hasPosition = [z, lat, lng].every((part) => part !== undefined && Number.isFinite(Number(part)));
    if (hasPosition) map.setView([Number(lat), Number(lng)], Number(z), { animate: false });
    closePanel();
    show(described, hasPosition);
  } catch (error) {
    sayMapError(error.message);
  }
}

window.addEventListener("hashchange", readAddress);

byId("share").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(location.href);
    byId("status").textContent = "Link copied.";
  } catch {
    byId("status").textContent = "Copy the address of this page.";
  }
});

// --- the form

function clearErrors() {
  for (const place of ["topic", "access", "mapconfig"]) byId(`${place}-error`).textContent = "";
  for (const id of ["topic", "mapconfig"]) byId(id).classList.remove("invalid");
}

function sayError(error) {
  if (!(error instanceof ApiError)) throw error;
  if (error.place === "map") {
    sayMapError(error.message);
    byId("status").textContent = error.message;
    return;
  }
  byId(`${error.place}-error`).textContent = error.message;
  byId(error.place)?.classList.add("invalid");
  byId(`${error.place}-error`).scrollIntoView({ block: "nearest" });
}

function readConfig() {
  const text = byId("mapconfig").value;
  try {
    return JSON.parse(text);
  } catch (error) {
    const position = /position (\d+)/.exec(error.message);
    const line = position ? text.slice(0, Number(position[1])).split("\n").length : null;
    throw new ApiError("mapconfig", `This is not JSON${line ? ` (line ${line})` : ""}: ${error.message}`);
  }
}

async function accessToken() {
  if (document.querySelector("input[name=access]:checked").value === "token") {
    const token = byId("token").value.trim();
    if (!token) throw new ApiError("access", "Paste a token.");
    return token;
  }
  const [url, id, secret] = ["token-url", "client-id", "client-secret"].map((name) => byId(name).value.trim());
  if (!url || !id || !secret) throw new ApiError("access", "Client id, secret and token address are needed.");
  return fetchToken(url, id, secret);
}

byId("panel").addEventListener("submit", async (event) => {
  event.preventDefault();
  clearErrors();
  byId("go").disabled = true;
  byId("status").textContent = "Working…";
  try {
    const config = readConfig();
    const token = await accessToken();
    const created = await createMap(token, byId("topic").value.trim(), config);
    byId("status").textContent = "";
    if (window.matchMedia("(max-width: 720px)").matches) closePanel();
    map.invalidateSize();
    show(created, false);
  } catch (error) {
    byId("status").textContent = "";
    sayError(error);
  } finally {
    byId("go").disabled = false;
  }
});

for (const radio of document.querySelectorAll("input[name=access]")) {
  radio.addEventListener("change", () => {
    byId("access-client").hidden = radio.value !== "client";
    byId("access-token").hidden = radio.value !== "token";
  });
}

SAMPLES.forEach((sample, index) => byId("sample").add(new Option(sample.title, String(index))));
function useSample() {
  byId("mapconfig").value = JSON.stringify(SAMPLES[Number(byId("sample").value)].config, null, 2);
}
byId("sample").addEventListener("change", useSample);
byId("sample").value = "1";
useSample();

function setPanel(open) {
  document.body.classList.toggle("closed", !open);
  byId("toggle").setAttribute("aria-expanded", String(open));
  map.invalidateSize();
}
function closePanel() { setPanel(false); }
byId("toggle").addEventListener("click", () => setPanel(document.body.classList.contains("closed")));

async function readSettings() {
  try {
    const answer = await fetch("config.json");
    if (!answer.ok) throw new Error(String(answer.status));
    const offered = await answer.json();
    for (const topic of offered.topics) byId("topics").append(new Option(topic, topic));
    if (offered.topics.length) byId("topic").value = offered.topics[0];
    byId("token-url").value = offered.token_url;
    byId("client-id").value = offered.client_id;
  } catch {
    sayMapError("The server's settings for this page could not be loaded.");
  }
}

showLand();
readSettings();
readAddress();
