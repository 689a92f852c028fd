// What the reader does, and the state that follows from it. Everything is drawn again from the state, once a frame.

const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
const PROJECTION_TITLES = { tsne: "t-SNE", umap: "UMAP", pca: "PCA" };
const theme = {};
const state = {
  projection: 0,
  marks: "auto",
  tool: "move",
  column: 0,
  hidden: new Set(), // lines of the legend
  visible: [], // for each map [N], 1 where the legend shows an image
  picked: -1,
  visited: new Set(), // picked since the last time that nothing was
  hovered: -1,
  selection: [],
  selectionTitle: "",
  focus: undefined, // [N], 1 for what stands out while the others fade
};

function byId(id) {
  return document.getElementById(id);
}

const planes = page.maps.map((map, number) => new Plane(map, number));

let scheduled = false;
function requestDrawing() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    if (planes.map((plane) => plane.draw()).some(Boolean)) requestDrawing();
  });
}

function say(text) {
  byId("status").textContent = text;
}

function sayCounts() {
  const shownNow = state.visible[0].reduce((sum, value) => sum + value, 0);
  say([shownNow < count ? `${shownNow.toLocaleString("en")} of ${countOf(count)}` : countOf(count), page.note].filter(Boolean).join(" · "));
}

// Colors

function themed(color) {
  return theme.dark ? mix(color, [255, 255, 255], 0.16) : color;
}

function setTheme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  const style = getComputedStyle(document.documentElement);
  for (const name of ["canvas", "ink", "faint", "accent"]) theme[name] = fromHex(style.getPropertyValue(`--${name}`).trim());
  theme.dark = dark;
  recolor();
  showPicked();
  showSelected();
}

function recolor() {
  for (const plane of planes) {
    const grouping = groupingOf(plane.number);
    for (let i = 0; i < count; i++) {
      const color = themed(grouping.shade(i));
      plane.colors[i] = packed(color);
      plane.faded[i] = packed(mix(color, theme.canvas, 0.8));
      plane.paled[i] = packed(mix(color, theme.canvas, 0.5));
    }
    state.visible[plane.number] = Uint8Array.from(grouping.of, (group) => (state.hidden.has(group) ? 0 : 1));
    plane.clusters = undefined;
  }
  showLegend();
  sayCounts();
  requestDrawing();
}

// Choices

function press(group, value) {
  for (const button of byId(group).children) button.setAttribute("aria-pressed", String(button.dataset.value === String(value)));
}

function choose(key, group, value, then = () => {}) {
  state[key] = value;
  press(group, value);
  then();
  requestDrawing();
}

const chooseMarks = (value) => choose("marks", "marks", value);
const chooseTool = (value) => choose("tool", "tools", value, () => planes.forEach((plane) => plane.ink.classList.toggle("select", value !== "move")));

function chooseProjection(which) {
  if (which >= page.maps[0].projections.length || which === state.projection) return;
  choose("projection", "projections", which, () => planes.forEach((plane) => plane.project(which)));
}

function chooseColumn(which) {
  state.column = which;
  state.hidden.clear();
  byId("card").image = undefined;
  recolor();
  showPicked();
  showSelected();
}

function view(what) {
  for (const plane of planes) {
    if (what === "reset") plane.camera = { x: 0, y: 0, zoom: 1 };
    else plane.zoomAt(plane.width / 2, plane.height / 2, what === "in" ? 1.5 : 1 / 1.5);
  }
  requestDrawing();
}

// Images that stand out

function refocus() {
  const standing = [...state.selection];
  if (state.picked >= 0) standing.push(state.picked, ...page.maps.flatMap((map) => [...neighborsOf(map, state.picked)]));
  state.focus = undefined;
  if (standing.length || state.selectionTitle) {
    state.focus = new Uint8Array(count);
    for (const i of standing) state.focus[i] = 1;
  }
  requestDrawing();
}

function pick(i) {
  state.picked = i;
  if (i < 0) state.visited.clear();
  else state.visited.add(i);
  hover(-1);
  refocus();
  showPicked();
  if (i >= 0) byId("panel").scrollTop = 0;
}

/** Go on to the nearest neighbor that was not picked on this walk. */
function walk() {
  if (state.picked < 0) return;
  const next = neighborsOf(page.maps[0], state.picked).find((i) => !state.visited.has(i));
  if (next !== undefined) pick(next);
}

function hover(i, number = 0, x = undefined, y = undefined) {
  if (i !== state.hovered) requestDrawing();
  state.hovered = i;
  showCard(i, number, x, y);
}

function select(images, title) {
  state.selection = [...images];
  state.selectionTitle = title;
  refocus();
  showSelected();
}

function search(text) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return select([], "");
  const labels = page.classColumn === undefined ? undefined : page.columns[page.classColumn];
  const found = [];
  for (let i = 0; i < count; i++) {
    if (page.names[i].toLowerCase().includes(wanted) || (labels && valueOf(labels, i).toLowerCase() === wanted)) found.push(i);
  }
  select(found, `found for “${shown(text.trim())}”`);
}

function zoomToSelection() {
  if (state.selection.length) planes.forEach((plane) => plane.show(state.selection));
  requestDrawing();
}

function clear() {
  byId("search").value = "";
  pick(-1);
  select([], "");
}

// Pointers: one drags or selects, two pinch.

function listen(plane) {
  const { ink } = plane, pointers = new Map();
  let start, last, tool, pinch;
  const at = (event) => {
    const box = ink.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const reach = (event) => (event.pointerType === "mouse" ? 9 : 22);
  const spread = () => {
    const [[ax, ay], [bx, by]] = [...pointers.values()];
    return { x: (ax + bx) / 2, y: (ay + by) / 2, distance: Math.hypot(ax - bx, ay - by) || 1 };
  };
  ink.addEventListener("pointerdown", (event) => {
    if (event.button > 0) return;
    ink.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    start = last = at(event);
    tool = event.shiftKey ? "lasso" : state.tool;
    if (pointers.size === 2) [pinch, plane.path] = [spread(), undefined];
    hover(-1);
  });
  ink.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    if (!pointers.has(event.pointerId)) {
      const found = plane.imageAt(x, y, reach(event));
      ink.classList.toggle("over", found >= 0);
      return hover(found, plane.number, event.clientX, event.clientY);
    }
    pointers.set(event.pointerId, [x, y]);
    if (pointers.size === 2) {
      const now = spread();
      plane.pan(now.x - pinch.x, now.y - pinch.y);
      plane.zoomAt(now.x, now.y, now.distance / pinch.distance);
      pinch = now;
    } else if (!pinch && tool === "move") plane.pan(x - last[0], y - last[1]);
    else if (!pinch && tool === "box") plane.path = [start, [x, start[1]], [x, y], [start[0], y]];
    else if (!pinch) plane.path = [...(plane.path || [start]), [x, y]];
    last = [x, y];
    return requestDrawing();
  });
  const end = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    const path = plane.path, moved = Math.hypot(last[0] - start[0], last[1] - start[1]);
    plane.path = undefined;
    if (!pinch && event.type === "pointerup") {
      if (path && path.length > 2) select(plane.imagesInside(path), "selected");
      else if (moved < 4) pick(plane.imageAt(...start, reach(event)));
    }
    if (!pointers.size) pinch = undefined;
    requestDrawing();
  };
  ink.addEventListener("pointerup", end);
  ink.addEventListener("pointercancel", end);
  ink.addEventListener("pointerleave", () => hover(-1));
  ink.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    plane.zoomAt(...at(event), Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0016)));
    requestDrawing();
  }, { passive: false });
}

// Keys

const KEYS = {
  m: () => chooseTool("move"), b: () => chooseTool("box"), l: () => chooseTool("lasso"),
  "+": () => view("in"), "=": () => view("in"), "-": () => view("out"), 0: () => view("reset"),
  p: () => chooseMarks({ dots: "auto", auto: "pictures", pictures: "dots" }[state.marks]),
  n: walk, d: () => setTheme(!theme.dark), "?": () => byId("keys").showModal(), "/": () => byId("search").focus(), Escape: clear,
  ArrowLeft: () => arrow(60, 0), ArrowRight: () => arrow(-60, 0), ArrowUp: () => arrow(0, 60), ArrowDown: () => arrow(0, -60),
};

function arrow(dx, dy) {
  planes.forEach((plane) => plane.pan(dx, dy));
  requestDrawing();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("keys").open) return;
  const field = event.target.closest("input, select");
  if (field && event.key === "Escape") field.blur();
  else if (field) return;
  const action = /^[1-9]$/.test(event.key) ? () => chooseProjection(Number(event.key) - 1) : KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

// The page

document.title = shown(page.title);
byId("title").textContent = byId("title").title = shown(page.title);
byId("caption").textContent = byId("caption").title = shown(page.caption);
page.maps[0].projections.forEach(({ kind }, which) => {
  const button = element("button", { type: "button", textContent: PROJECTION_TITLES[kind] || kind, title: `Projection (${which + 1})` });
  button.dataset.value = which;
  byId("projections").append(button);
});
byId("projections").hidden = page.maps[0].projections.length < 2;
byId("marks").hidden = !tiles;
byId("color").append(...page.columns.map((column, which) => element("option", { value: which, textContent: shown(column.title) })));
byId("planes").append(...planes.map((plane) => plane.figure));
byId("projections").onclick = (event) => event.target.dataset.value && chooseProjection(Number(event.target.dataset.value));
byId("marks").onclick = (event) => event.target.dataset.value && chooseMarks(event.target.dataset.value);
for (const [id, then] of [["tools", chooseTool], ["views", view]]) {
  for (const button of byId(id).children) button.onclick = () => then(button.dataset.value);
}
byId("color").onchange = (event) => chooseColumn(Number(event.target.value));
byId("all").onclick = () => { state.hidden.clear(); recolor(); };
byId("search").oninput = (event) => search(event.target.value);
byId("search").onkeydown = (event) => event.key === "Enter" && zoomToSelection();
byId("theme").onclick = () => setTheme(!theme.dark);
byId("help").onclick = () => byId("keys").showModal();
byId("fold").onclick = () => byId("panel").classList.toggle("folded");
press("projections", 0);
press("marks", state.marks);
press("tools", state.tool);
planes.forEach(listen);
const dark = matchMedia("(prefers-color-scheme: dark)");
dark.addEventListener("change", () => setTheme(dark.matches));
const observer = new ResizeObserver(() => {
  for (const plane of planes) {
    plane.resize();
    plane.draw(); // at once: a resized canvas is empty
  }
});
planes.forEach((plane) => plane.resize());
setTheme(dark.matches);
planes.forEach((plane) => observer.observe(plane.figure));
