// Beside the maps: the legend, the picked image with its neighbors, the selection as a list, the card under the pointer.

const PICTURES_AT_ONCE = 120;

function neighborsOf(map, i) {
  return map.neighbors.subarray(i * map.k, (i + 1) * map.k);
}

function groupingOf(number) {
  const { groupings } = page.columns[state.column];
  return groupings[Math.min(number, groupings.length - 1)];
}

function groupsAreNames() {
  return Boolean(page.columns[state.column].names);
}

function swatch(color) {
  const made = element("i", { className: "swatch" });
  made.style.background = css(color);
  return made;
}

function showLegend() {
  const { groups } = groupingOf(0);
  const lines = groups.map((group, number) => ({ ...group, number })).filter((group) => group.count > 0);
  byId("all").hidden = state.hidden.size === 0;
  byId("groups").replaceChildren(...lines.map((group) => {
    const button = element("button", { type: "button", title: `${shown(group.name)}: click hides or shows, double click shows only this` }, [
      swatch(themed(group.color)),
      element("span", { className: "name", textContent: shown(group.name) }),
      element("small", { textContent: group.count.toLocaleString("en") }),
    ]);
    button.setAttribute("aria-pressed", String(!state.hidden.has(group.number)));
    button.onclick = (event) => {
      if (event.detail === 2) state.hidden = new Set(lines.map((line) => line.number).filter((number) => number !== group.number));
      else if (!state.hidden.delete(group.number)) state.hidden.add(group.number);
      recolor();
      byId("groups").children[lines.findIndex((line) => line.number === group.number)].firstElementChild.focus();
    };
    return element("li", {}, [button]);
  }));
}

/** Name, values of all columns: as text. */
function factsOf(i, number, { all = true } = {}) {
  const lines = [element("p", { className: "name", textContent: all ? shown(page.names[i]) : shortName(i) })];
  page.columns.forEach((column, which) => {
    if (!all && which !== state.column && which !== page.classColumn) return;
    const value = valueOf(column, i, number);
    if (value === "") return;
    const line = element("p");
    if (which === state.column) line.append(swatch(page.maps.length && themed(groupingOf(number).shade(i))));
    if (which !== page.classColumn) line.append(`${shown(column.title)} `);
    line.append(element("b", { textContent: shown(value) }));
    lines.push(line);
  });
  return element("div", { className: "facts" }, lines);
}

function tile(i, number, below, properties = {}) {
  const image = picture(i);
  image.style.borderColor = css(themed(groupingOf(number).shade(i)));
  const button = element("button", { type: "button", title: shown(page.names[i]), ...properties }, [
    image, element("span", { className: "name", textContent: below }),
  ]);
  button.onclick = () => pick(i);
  button.onpointerenter = () => hover(i);
  button.onpointerleave = () => hover(-1);
  return button;
}

function showPicked() {
  const section = byId("picked"), i = state.picked;
  section.hidden = i < 0;
  if (i < 0) return;
  const parts = [element("div", { className: "subject" }, [picture(i), factsOf(i, 0)])];
  const sets = page.maps.map((map) => new Set(neighborsOf(map, i)));
  page.maps.forEach((map, number) => {
    const near = [...neighborsOf(map, i)];
    const heading = element("h3", {}, [element("b", { textContent: countOf(near.length, "nearest neighbor") })]);
    const label = page.classColumn === undefined ? undefined : page.columns[page.classColumn].values[0];
    if (page.maps.length > 1) heading.append(` in ${shown(map.name)}`);
    if (label && label[i] >= 0) heading.append(`, ${near.filter((other) => label[other] === label[i]).length} of its class`);
    parts.push(heading, element("div", { className: "tiles" }, near.map((other, rank) => {
      const similarity = (map.similarities[i * map.k + rank] / 10000).toFixed(3);
      const shared = page.maps.length > 1 && sets.every((set) => set.has(other));
      return tile(other, number, similarity, shared ? { className: "shared" } : {});
    })));
  });
  if (page.maps.length > 1) parts.push(element("h3", { textContent: "Bold: a neighbor in both." }));
  section.replaceChildren(...parts);
}

function showSelected() {
  const section = byId("selected"), images = state.selection;
  section.hidden = !state.selectionTitle;
  if (section.hidden) return;
  const list = element("div", { className: "tiles" }), more = element("button", { type: "button", className: "plain more" });
  let listed = 0;
  more.onclick = () => {
    const next = images.slice(listed, listed + PICTURES_AT_ONCE);
    list.append(...next.map((i) => tile(i, 0, shortName(i))));
    listed += next.length;
    more.textContent = `show ${Math.min(PICTURES_AT_ONCE, images.length - listed)} more of ${images.length.toLocaleString("en")}`;
    more.hidden = listed >= images.length;
  };
  more.onclick();
  const actions = element("div", { className: "actions" }, [
    action("Save CSV", saveSelection), action("Copy names", copySelection), action("Zoom to", zoomToSelection),
    action("Clear", () => select([], "")),
  ]);
  section.replaceChildren(element("h2", { textContent: `${countOf(images.length)} ${state.selectionTitle}` }), mixOf(images), actions, list, more);
}

function action(text, onclick) {
  return element("button", { type: "button", textContent: text, onclick });
}

/** A bar of the groups that some images belong to. */
function mixOf(images) {
  const { of, groups } = groupingOf(0), counts = new Map();
  for (const i of images) counts.set(of[i], (counts.get(of[i]) || 0) + 1);
  const bar = element("div", { className: "mix" });
  for (const [group, number] of [...counts].sort((a, b) => b[1] - a[1])) {
    const part = element("span", { title: `${shown(groups[group].name)}: ${number}` });
    part.style.flex = number;
    part.style.background = css(themed(groups[group].color));
    bar.append(part);
  }
  return bar;
}

/** A cell of a CSV file; a spreadsheet would run one that begins like a formula. */
function cell(value) {
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function selectionTable() {
  const several = page.maps.length > 1, places = [], heads = ["path", "index"];
  page.maps.forEach((map, number) => {
    const projection = map.projections[state.projection];
    places.push(unpack(projection.points, Float32Array));
    heads.push(...["x", "y"].map((axis) => `${axis}_${projection.kind}${several ? `_${number + 1}` : ""}`));
  });
  const columns = page.columns.flatMap((column) => column.values.map((values, number) => {
    heads.push(column.values.length > 1 ? `${column.title} (${page.maps[number].name})` : column.title);
    return (i) => (column.names ? (values[i] < 0 ? "" : column.names[values[i]]) : Number.isFinite(values[i]) ? Number(values[i].toPrecision(7)) : "");
  }));
  const indices = unpack(page.indices, Int32Array);
  const rows = state.selection.map((i) => [
    page.named ? page.names[i] : "", indices[i],
    ...places.flatMap((points) => [points[2 * i], points[2 * i + 1]].map((value) => Number(value.toPrecision(6)))),
    ...columns.map((value) => value(i)),
  ]);
  return [heads, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

function saveSelection() {
  const link = element("a", { download: "selection.csv" });
  link.href = URL.createObjectURL(new Blob(["\ufeff", selectionTable()], { type: "text/csv" })); // the mark tells Excel that it is UTF-8
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  say(`saved ${countOf(state.selection.length)} as selection.csv`);
}

async function copySelection() {
  const text = state.selection.map((i) => page.names[i]).join("\n");
  try {
    await navigator.clipboard.writeText(text);
  } catch { // an old browser, or one that forbids it to files
    const area = element("textarea", { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  say(`copied ${countOf(state.selection.length, "name")}`);
}

function showCard(i, number, x, y) {
  const card = byId("card");
  card.hidden = i < 0 || x === undefined;
  if (card.hidden) return;
  if (card.image !== `${i} ${number} ${state.column}`) {
    card.image = `${i} ${number} ${state.column}`;
    card.replaceChildren(...(hasPicture(i) ? [picture(i)] : []), factsOf(i, number, { all: false }));
  }
  const box = card.getBoundingClientRect();
  card.style.left = `${Math.max(6, x + 18 + box.width > innerWidth ? x - box.width - 14 : x + 18)}px`;
  card.style.top = `${Math.max(6, Math.min(y + 14, innerHeight - box.height - 8))}px`;
}
