"use strict";
// Lists of pictures. All text of the user's goes into text nodes; pictures are cut out of their atlases as they are shown.

const page = JSON.parse(document.getElementById("data").textContent);
const AT_ONCE = 120; // pictures of a list that are shown before "more" is asked for
const tiles = page.tiles && { ...page.tiles, place: integers(page.tiles.place) };
const atlases = [...document.querySelectorAll("script.atlas")].map((script) => ({ script, image: null }));

function integers(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Int32Array(bytes.buffer);
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

/** The decoded atlas, each once. */
function atlasOf(number) {
  const atlas = atlases[number];
  atlas.image ??= new Promise((done, failed) => {
    const image = new Image();
    image.onload = () => done(image);
    image.onerror = () => failed(new Error(`atlas ${number} cannot be decoded`));
    image.src = `data:image/webp;base64,${atlas.script.textContent}`;
  });
  return atlas.image;
}

/** A canvas with a picture, or a box that says that there is none. */
function picture(tile) {
  const place = tiles && tile >= 0 ? tiles.place[tile] : -1;
  if (place < 0) return element("div", "no picture", "none");
  const canvas = element("canvas");
  canvas.width = canvas.height = tiles.size;
  const inside = place % tiles.perAtlas;
  const x = (inside % tiles.columns) * tiles.size;
  const y = Math.floor(inside / tiles.columns) * tiles.size;
  atlasOf(Math.floor(place / tiles.perAtlas)).then((image) => {
    canvas.getContext("2d").drawImage(image, x, y, tiles.size, tiles.size, 0, 0, tiles.size, tiles.size);
    canvas.dataset.drawn = "1";
  });
  return canvas;
}

function card([tile, name, lines, mark]) {
  const made = element("figure", undefined, `card ${mark}`);
  made.append(picture(tile));
  const shown = element("span", undefined, "name");
  for (const part of name.split(/(?<=[_/])/)) shown.append(part, document.createElement("wbr")); // a line may end there
  shown.title = name;
  made.append(shown, ...lines.map((line) => element("span", line, "line")));
  return made;
}

function rowOf(section, [, heading, cards]) {
  const row = element("div", undefined, `row ${section.grouped ? "group" : ""}`);
  if (heading) row.append(element("div", heading, "what"));
  const holder = element("div", undefined, "cards");
  holder.append(...cards.slice(0, AT_ONCE).map(card));
  row.append(holder);
  if (cards.length > AT_ONCE) row.append(more(cards.length - AT_ONCE, () => holder.append(...cards.slice(AT_ONCE).map(card))));
  return row;
}

/** A button that shows the rest and goes. */
function more(count, show) {
  const button = element("button", `show ${count.toLocaleString("en")} more`, "more");
  button.type = "button";
  button.addEventListener("click", () => { show(); button.remove(); });
  return button;
}

function listOf(section) {
  const made = element("section", undefined, section.fault ? "fault" : "");
  made.id = section.kind;
  const head = element("div", undefined, "head");
  head.append(element("h2", section.title), element("span", section.count, "count"));
  const tools = element("span", undefined, "tools");
  const copy = element("button", "copy names");
  copy.type = "button";
  copy.addEventListener("click", () => copyText(namesOf(section), copy));
  tools.append(copy);
  head.append(tools);
  made.append(head, element("p", section.text));
  const body = element("div", undefined, section.grouped ? "groups" : "cards");
  made.append(body);
  let shown = 0;
  const showMore = () => {
    let pictures = 0;
    const first = shown;
    while (shown < section.rows.length && pictures < AT_ONCE) {
      pictures += section.rows[shown][2].length;
      shown += 1;
    }
    const rows = section.rows.slice(first, shown);
    body.append(...(section.grouped ? rows.map((row) => rowOf(section, row)) : rows.map((row) => card(row[2][0]))));
    if (shown < section.rows.length) made.append(more(section.rows.length - shown, showMore));
  };
  showMore();
  return made;
}

/** The names of a list, one a line, groups apart by an empty line. */
function namesOf(section) {
  const groups = section.rows.map((row) => row[2].map((each) => each[1]).join("\n"));
  return groups.join(section.grouped ? "\n\n" : "\n");
}

async function copyText(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "copied";
  } catch {
    const area = element("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    button.textContent = document.execCommand("copy") ? "copied" : "not allowed";
    area.remove();
  }
  setTimeout(() => { button.textContent = before; }, 1500);
}

function tableOf(table) {
  const made = element("section");
  const head = element("div", undefined, "head");
  head.append(element("h2", table.title));
  const scroll = element("div", undefined, "scroll");
  const drawn = element("table");
  const heading = drawn.createTHead().insertRow();
  heading.append(...table.columns.map((name) => element("th", name)));
  const most = table.bars ? Math.max(1, ...table.rows.flatMap((row) => row.slice(1).map(Number))) : 0;
  const body = drawn.createTBody();
  for (const row of table.rows) {
    const line = body.insertRow();
    row.forEach((cell, column) => {
      const made_cell = element("td");
      if (table.bars && column > 0) {
        const meter = element("span", undefined, "meter");
        meter.style.width = `${(140 * Number(cell)) / most}px`;
        made_cell.append(meter);
      }
      made_cell.append(table.bars && column > 0 ? Number(cell).toLocaleString("en") : cell);
      line.append(made_cell);
    });
  }
  scroll.append(drawn);
  made.append(head, scroll);
  return made;
}

// The heat map: dark is far, light is near, by the colors of viridis, which all can tell apart and a gray print keeps.
const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];

function heatColor(part) {
  const at = Math.min(1, Math.max(0, part)) * (VIRIDIS.length - 1);
  const low = Math.min(VIRIDIS.length - 2, Math.floor(at));
  return VIRIDIS[low].map((value, channel) => Math.round(value + (at - low) * (VIRIDIS[low + 1][channel] - value)));
}

function drawHeat(heat) {
  const made = document.getElementById("heat");
  made.hidden = false;
  const count = heat.cards.length;
  const cell = Math.max(4, Math.min(64, Math.floor(960 / count)));
  const edge = cell >= 18 ? cell : 0; // room for the pictures along both sides
  const canvas = element("canvas");
  canvas.width = canvas.height = count * cell + edge;
  const pen = canvas.getContext("2d");
  const part = (value) => (heat.high > heat.low ? (value - heat.low) / (heat.high - heat.low) : 1);
  heat.values.forEach((row, y) => row.forEach((value, x) => {
    if (x === y) return; // an image is like itself in any case
    const color = heatColor(part(value));
    pen.fillStyle = `rgb(${color})`;
    pen.fillRect(edge + x * cell, edge + y * cell, cell, cell);
    if (cell >= 38) {
      pen.fillStyle = color[1] > 120 ? "#000" : "#fff";
      pen.font = "11px system-ui, sans-serif";
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      pen.fillText(value.toFixed(2).replace("-0.00", "0.00"), edge + (x + 0.5) * cell, edge + (y + 0.5) * cell);
    }
    if (heat.threshold !== null && value >= heat.threshold) {
      pen.strokeStyle = color[1] > 120 ? "#000" : "#fff";
      pen.lineWidth = Math.max(1, cell / 24);
      pen.strokeRect(edge + x * cell + 1.5, edge + y * cell + 1.5, cell - 3, cell - 3);
    }
  }));
  heat.cards.forEach(([tile], i) => {
    const place = tiles && tile >= 0 ? tiles.place[tile] : -1;
    if (!edge || place < 0) return;
    const inside = place % tiles.perAtlas;
    const from = [(inside % tiles.columns) * tiles.size, Math.floor(inside / tiles.columns) * tiles.size, tiles.size, tiles.size];
    atlasOf(Math.floor(place / tiles.perAtlas)).then((image) => {
      pen.drawImage(image, ...from, edge + i * cell + 1, 1, edge - 2, edge - 2);
      pen.drawImage(image, ...from, 1, edge + i * cell + 1, edge - 2, edge - 2);
    });
  });
  const holder = element("div", undefined, "heat");
  holder.append(canvas);
  made.append(scaleOf(heat), holder);
  const hover = document.getElementById("hover");
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const x = Math.floor((event.clientX - box.left - edge) / cell);
    const y = Math.floor((event.clientY - box.top - edge) / cell);
    hover.hidden = x < 0 || y < 0 || x >= count || y >= count;
    if (hover.hidden) return;
    const pair = element("div", undefined, "pair");
    pair.append(picture(heat.cards[y][0]), picture(heat.cards[x][0]));
    const value = heat.values[y][x];
    const said = heat.threshold === null || x === y ? "" : value >= heat.threshold ? ": the same" : ": different";
    hover.replaceChildren(pair, element("div", `${value.toFixed(4)}${said}`), element("div", heat.cards[y][1]), element("div", heat.cards[x][1]));
    hover.style.left = `${Math.min(event.clientX + 16, innerWidth - 340)}px`;
    hover.style.top = `${Math.min(event.clientY + 16, innerHeight - 180)}px`;
  });
  canvas.addEventListener("pointerleave", () => { hover.hidden = true; });
}

function scaleOf(heat) {
  const scale = element("div", undefined, "scale");
  const ramp = element("canvas");
  ramp.width = 220;
  ramp.height = 1;
  const pen = ramp.getContext("2d");
  for (let x = 0; x < 220; x += 1) {
    pen.fillStyle = `rgb(${heatColor(x / 219)})`;
    pen.fillRect(x, 0, 1, 1);
  }
  scale.append(element("span", heat.low.toFixed(2)), ramp, element("span", heat.high.toFixed(2)));
  if (heat.threshold !== null) scale.append(element("span", `framed: the same, from ${heat.threshold.toFixed(4)}`));
  return scale;
}

function setTheme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}

setTheme(matchMedia("(prefers-color-scheme: dark)").matches);
document.getElementById("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme !== "dark"));
document.addEventListener("keydown", (event) => {
  if (event.key === "d" && !event.ctrlKey && !event.metaKey) setTheme(document.documentElement.dataset.theme !== "dark");
});
document.getElementById("title").textContent = page.title;
document.getElementById("lines").append(...page.lines.map((line) => element("p", line)));
if (page.command) {
  document.getElementById("advice").hidden = false;
  document.getElementById("command").textContent = page.command;
  document.getElementById("reasons").append(...page.reasons.map((reason) => element("li", reason)));
  document.getElementById("copy").addEventListener("click", (event) => copyText(page.command, event.currentTarget));
}
const contents = document.getElementById("contents");
for (const section of page.sections.length > 1 || page.clean.length ? page.sections : []) {
  const link = element("a", `${section.title}: ${section.count}`, section.fault ? "fault" : "");
  link.href = `#${section.kind}`;
  contents.append(link);
}
for (const title of page.clean) contents.append(element("span", `${title}: none`));
if (page.heatMap) drawHeat(page.heatMap);
document.getElementById("sections").append(...page.sections.map(listOf));
document.getElementById("tables").append(...page.tables.map(tableOf));
