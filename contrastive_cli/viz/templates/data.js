"use strict";
// What the page carries, read once: typed arrays in base64, names as text, pictures in atlases of tiles.

const page = JSON.parse(document.getElementById("data").textContent);
const count = page.names.length;
const MAX_GROUPS = 200; // values of a column with a color and a line in the legend of their own
const RANGES = 6; // lines in the legend of a column of numbers
// Colors are [red, green, blue], 0 to 255.
const GRAY = [158, 163, 170];
const VIRIDIS = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"].map(fromHex);

function unpack(text, Kind) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return new Kind(bytes.buffer);
}

page.columns.forEach((column, number) => { if (column.role === "class") page.classColumn = number; });
const neighborKind = count > 65535 ? Uint32Array : Uint16Array;
for (const map of page.maps) {
  map.neighbors = unpack(map.neighbors, neighborKind); // [N, k] positions
  map.similarities = unpack(map.similarities, Int16Array); // [N, k] in ten-thousandths
  for (const projection of map.projections) Object.assign(projection, unitSquare(unpack(projection.points, Float32Array)));
}
for (const column of page.columns) {
  column.values = column.values.map((text) => unpack(text, column.names ? Int32Array : Float32Array));
  column.groupings = column.values.map((values) => (column.names ? byName(column, values) : byRange(values)));
}
const order = shuffled(count); // drawn in random order, so that no class hides the others

/** Coordinates moved and scaled into [-1, 1], y pointing up, with one scale for both axes; and how far each axis reaches. */
function unitSquare(points) {
  const low = [Infinity, Infinity], high = [-Infinity, -Infinity];
  for (let i = 0; i < points.length; i++) {
    low[i & 1] = Math.min(low[i & 1], points[i]);
    high[i & 1] = Math.max(high[i & 1], points[i]);
  }
  const half = Math.max(high[0] - low[0], high[1] - low[1], 1e-9) / 2;
  const world = points.map((value, i) => (value - (low[i & 1] + high[i & 1]) / 2) / half);
  return { world, reach: [0, 1].map((axis) => Math.max(0.05, (high[axis] - low[axis]) / 2 / half)) };
}

function shuffled(length) {
  const indices = Uint32Array.from({ length }, (_, i) => i);
  let state = 1;
  for (let i = length - 1; i > 0; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const other = Math.floor((state / 4294967296) * (i + 1));
    [indices[i], indices[other]] = [indices[other], indices[i]];
  }
  return indices;
}

// A grouping says for each image the line of the legend it belongs to; the last line takes what has no other.

function byName(column, values) {
  const counts = new Uint32Array(column.names.length);
  for (const value of values) if (value >= 0) counts[value]++;
  const present = [...counts.keys()].filter((value) => counts[value]);
  const kept = present.length <= MAX_GROUPS ? present
    : [...present].sort((a, b) => counts[b] - counts[a] || a - b).slice(0, MAX_GROUPS).sort((a, b) => a - b);
  const rank = new Int32Array(column.names.length).fill(kept.length);
  kept.forEach((value, i) => { rank[value] = i; });
  const groups = kept.map((value, i) => ({ name: column.names[value], color: nameColor(i) }));
  return grouping(values, (value) => (value < 0 ? kept.length : rank[value]), groups,
    present.length > kept.length ? `${present.length - kept.length} more, or none` : column.missing || "none");
}

function byRange(values) {
  const known = values.filter(Number.isFinite).sort();
  const low = known.length ? known[Math.floor(0.01 * (known.length - 1))] : 0;
  const high = known.length ? known[Math.ceil(0.99 * (known.length - 1))] : 1;
  const width = (high - low) / RANGES || 1;
  const place = (value) => Math.min(1, Math.max(0, (value - low) / (high - low || 1)));
  const groups = Array.from({ length: high > low ? RANGES : 1 }, (_, i) => ({
    name: high > low ? `${shortNumber(low + i * width)} to ${shortNumber(low + (i + 1) * width)}` : shortNumber(low),
    color: rampColor((i + 0.5) / RANGES),
  }));
  const found = grouping(values, (value) => (Number.isFinite(value)
    ? Math.min(groups.length - 1, Math.floor(place(value) * RANGES)) : groups.length), groups, "none");
  found.shade = (i) => (Number.isFinite(values[i]) ? rampColor(place(values[i])) : GRAY);
  return found;
}

function grouping(values, groupOf, groups, rest) {
  const of = Uint16Array.from(values, groupOf);
  groups = [...groups, { name: rest, color: GRAY, rest: true }];
  for (const group of groups) group.count = 0;
  for (const group of of) groups[group].count++;
  return { of, groups, shade: (i) => groups[of[i]].color };
}

function fromHex(hex) {
  return [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
}

function nameColor(rank) {
  if (rank < page.palette.length) return fromHex(page.palette[rank]);
  const hue = (rank * 137.508) % 360, light = [0.42, 0.58, 0.5][rank % 3], chroma = 0.62 * Math.min(light, 1 - light);
  return [0, 8, 4].map((shift) => {
    const k = (shift + hue / 30) % 12;
    return Math.round(255 * (light - chroma * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  });
}

function rampColor(place) {
  const at = place * (VIRIDIS.length - 1), from = Math.min(VIRIDIS.length - 2, Math.floor(at));
  return mix(VIRIDIS[from], VIRIDIS[from + 1], at - from);
}

function mix(color, other, part) {
  return color.map((value, i) => Math.round(value + (other[i] - value) * part));
}

function css(color) {
  return `rgb(${color.join(" ")})`;
}

// Texts. Names come from anyone: they only ever become text nodes, with what cannot be seen made visible.

function shown(text) {
  return String(text).replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]|\p{Surrogate}/gu,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function shortNumber(value) {
  return Number.isFinite(value) ? String(Number(value.toPrecision(3))) : "none";
}

function countOf(number, noun = "image") {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

function element(tag, properties = {}, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function shortName(i) {
  return shown(page.names[i].split("/").pop() || page.names[i]);
}

function valueOf(column, i, map = 0) {
  const value = column.values[Math.min(map, column.values.length - 1)][i];
  return column.names ? (value < 0 ? "" : column.names[value]) : Number.isFinite(value) ? shortNumber(value) : "";
}
