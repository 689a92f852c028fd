// One map on two canvases: the dots, written pixel by pixel, and above them all that is drawn with lines and pictures.
// World coordinates lie in [-1, 1]; the camera says which of them is in the middle, and how large the world is drawn.

const MORPH_MS = 700;
const MOST_PICTURES = 1500; // on one map
const PICTURES_PER_PIXEL = 1 / 600; // in "auto", pictures appear when fewer images than this are in view

class Plane {
  constructor(map, number) {
    this.map = map;
    this.number = number;
    this.dots = element("canvas", { className: "dots" });
    this.ink = element("canvas", { className: "ink", tabIndex: 0 });
    this.ink.setAttribute("aria-label", `Map of ${countOf(count)}`);
    this.ink.setAttribute("role", "application");
    this.figure = element("figure", { className: "plane" }, [this.dots, this.ink]);
    if (page.maps.length > 1) {
      const caption = element("small", { textContent: shown(map.caption) });
      this.figure.append(element("figcaption", { textContent: shown(map.name) }, [caption]));
    }
    this.camera = { x: 0, y: 0, zoom: 1 };
    this.drawn = []; // pictures on the screen: {i, x, y, size}
    this.colors = new Uint32Array(count);
    this.faded = new Uint32Array(count); // beside a selection
    this.paled = new Uint32Array(count); // beside a picked image
    this.project(0);
  }

  /** Show another projection; the images wander there. */
  project(which) {
    this.projection = which;
    this.goal = this.map.projections[which].world;
    this.reach = this.map.projections[which].reach;
    this.started = this.world && !still ? performance.now() : 0;
    this.from = this.world || this.goal;
    this.world = this.started ? this.from.slice() : this.goal;
    this.grid = undefined;
    this.clusters = undefined;
  }

  resize() {
    const ratio = window.devicePixelRatio || 1, box = this.figure.getBoundingClientRect();
    this.width = box.width;
    this.height = box.height;
    for (const canvas of [this.dots, this.ink]) {
      canvas.width = Math.max(1, Math.round(box.width * ratio));
      canvas.height = Math.max(1, Math.round(box.height * ratio));
    }
    this.ratio = ratio;
    this.image = new ImageData(this.dots.width, this.dots.height);
    this.pixels = new Uint32Array(this.image.data.buffer);
  }

  get scale() {
    return this.camera.zoom * 0.465 * Math.min(this.width / this.reach[0], this.height / this.reach[1]);
  }

  toScreen(i) {
    return [
      this.width / 2 + (this.world[2 * i] - this.camera.x) * this.scale,
      this.height / 2 - (this.world[2 * i + 1] - this.camera.y) * this.scale,
    ];
  }

  toWorld(x, y) {
    return [this.camera.x + (x - this.width / 2) / this.scale, this.camera.y - (y - this.height / 2) / this.scale];
  }

  zoomAt(x, y, factor) {
    const [worldX, worldY] = this.toWorld(x, y);
    this.camera.zoom = Math.min(400, Math.max(0.4, this.camera.zoom * factor));
    const [movedX, movedY] = this.toWorld(x, y);
    this.camera.x += worldX - movedX;
    this.camera.y += worldY - movedY;
  }

  pan(dx, dy) {
    this.camera.x = Math.min(1.5, Math.max(-1.5, this.camera.x - dx / this.scale));
    this.camera.y = Math.min(1.5, Math.max(-1.5, this.camera.y + dy / this.scale));
  }

  /** Bring some images into view. */
  show(images) {
    const low = [Infinity, Infinity], high = [-Infinity, -Infinity];
    for (const i of images) {
      for (const axis of [0, 1]) {
        low[axis] = Math.min(low[axis], this.goal[2 * i + axis]);
        high[axis] = Math.max(high[axis], this.goal[2 * i + axis]);
      }
    }
    const half = Math.max(high[0] - low[0], high[1] - low[1], 0.04) / 2;
    this.camera = { x: (low[0] + high[0]) / 2, y: (low[1] + high[1]) / 2, zoom: Math.min(60, 0.85 * Math.min(...this.reach) / half) };
  }

  get radius() {
    return Math.min(8, Math.min(6, 19 / count ** 0.235) * Math.max(1, this.camera.zoom) ** 0.35);
  }

  draw() {
    const moving = this.wander();
    this.drawDots();
    this.drawInk();
    return moving;
  }

  wander() {
    if (!this.started) return false;
    const time = Math.min(1, (performance.now() - this.started) / MORPH_MS);
    const part = time * time * (3 - 2 * time);
    if (time === 1) this.world = this.goal;
    else for (let i = 0; i < this.world.length; i++) this.world[i] = this.from[i] + (this.goal[i] - this.from[i]) * part;
    this.started = time < 1 ? this.started : 0;
    return time < 1;
  }

  drawDots() {
    const { pixels, colors } = this, others = state.selectionTitle ? this.faded : this.paled;
    pixels.fill(packed(theme.canvas));
    this.mask = dotMask(this.radius * this.ratio, this.dots.width);
    this.inView = 0;
    const focus = state.focus;
    if (focus) this.splat(others, focus, 0);
    this.splat(colors, focus, 1);
    this.dots.getContext("2d", { alpha: false, willReadFrequently: true }).putImageData(this.image, 0, 0);
  }

  /** Blend a soft dot into the pixels for each image that is not hidden and, if there is a focus, has that value in it. */
  splat(colors, focus, wanted) {
    const { pixels, world, mask } = this, visible = state.visible[this.number];
    const { width, height } = this.dots, { reach } = mask, scale = this.scale * this.ratio;
    const left = width / 2 - this.camera.x * scale, top = height / 2 + this.camera.y * scale;
    for (let k = 0; k < count; k++) {
      const i = order[k];
      if (!visible[i] || (focus && focus[i] !== wanted)) continue;
      const x4 = Math.floor((left + world[2 * i] * scale) * 4), y4 = Math.floor((top - world[2 * i + 1] * scale) * 4);
      const x = x4 >> 2, y = y4 >> 2;
      if (x < reach || y < reach || x + reach >= width || y + reach >= height) continue;
      this.inView++;
      const { offsets, alphas } = mask.places[(y4 & 3) * 4 + (x4 & 3)], at = y * width + x, color = colors[i];
      const red = color & 0xff00ff, green = color & 0x00ff00;
      for (let m = 0; m < offsets.length; m++) {
        const old = pixels[at + offsets[m]], oldRed = old & 0xff00ff, oldGreen = old & 0x00ff00, alpha = alphas[m];
        pixels[at + offsets[m]] = 0xff000000
          | ((oldRed + (Math.imul(red - oldRed, alpha) >> 8)) & 0xff00ff)
          | ((oldGreen + (Math.imul(green - oldGreen, alpha) >> 8)) & 0x00ff00);
      }
    }
  }

  drawInk() {
    const context = this.ink.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    this.drawPictures(context);
    if (state.picked >= 0) this.drawNeighbors(context);
    if (!this.started) this.drawNames(context);
    if (state.hovered >= 0) this.ring(context, state.hovered, theme.ink, 2, 3);
    if (this.path) this.drawPath(context);
  }

  drawPictures(context) {
    this.drawn = [];
    if (kept) kept.clock++;
    const area = this.width * this.height;
    const wanted = state.marks === "pictures" || (state.marks === "auto" && this.inView <= area * PICTURES_PER_PIXEL);
    if (!tiles || !wanted || this.started) return;
    const roomy = Math.min(72, Math.max(22, 0.72 * Math.sqrt(area / Math.max(1, this.inView))));
    const size = state.marks === "auto" ? roomy : Math.max(roomy, Math.min(56, 24 * Math.max(1, this.camera.zoom) ** 0.4));
    const columns = Math.ceil(this.width / size) + 4, rows = Math.ceil(this.height / size) + 4;
    const taken = new Array(columns * rows);
    let strength = 1;
    // The cells are anchored in the world, so that panning keeps the choice.
    const originX = Math.floor((this.camera.x * this.scale - this.width / 2) / size) - 1;
    const originY = Math.floor((-this.camera.y * this.scale - this.height / 2) / size) - 1;
    const accept = (i) => {
      const cellX = Math.floor((this.world[2 * i] * this.scale) / size) - originX;
      const cellY = Math.floor((-this.world[2 * i + 1] * this.scale) / size) - originY;
      if (cellX < 1 || cellY < 1 || cellX >= columns - 1 || cellY >= rows - 1) return;
      if (taken[cellY * columns + cellX] || this.drawn.length >= MOST_PICTURES) return;
      const [x, y] = this.toScreen(i);
      for (let dy = -1; dy <= 1; dy++) {
        for (let dx = -1; dx <= 1; dx++) {
          const other = taken[(cellY + dy) * columns + cellX + dx];
          if (other && Math.abs(other.x - x) < size && Math.abs(other.y - y) < size) return;
        }
      }
      const place = { i, x, y, size }, tile = tileOf(i);
      taken[cellY * columns + cellX] = place; // also for a picture that is still to come
      if (!tile) return;
      this.drawn.push(place);
      this.drawPicture(context, place, tile, strength);
    };
    const visible = state.visible[this.number], focus = state.focus;
    if (state.picked >= 0 && visible[state.picked]) accept(state.picked);
    if (focus) for (const i of order) if (visible[i] && focus[i]) accept(i);
    strength = !focus ? 1 : state.selectionTitle ? 0.2 : 0.55;
    for (const i of order) if (visible[i] && !(focus && focus[i])) accept(i);
  }

  drawPicture(context, { i, x, y, size }, tile, strength) {
    const half = size / 2;
    context.fillStyle = css(theme.canvas);
    context.fillRect(x - half, y - half, size, size);
    context.globalAlpha = strength;
    context.fillStyle = css(this.colorOf(i));
    context.fillRect(x - half + 0.5, y - half + 0.5, size - 1, size - 1);
    context.drawImage(kept.canvas, tile.x, tile.y, tiles.size, tiles.size, x - half + 2, y - half + 2, size - 4, size - 4);
    context.globalAlpha = 1;
  }

  drawNeighbors(context) {
    const from = this.toScreen(state.picked);
    context.lineWidth = 1.2;
    context.strokeStyle = css(theme.ink);
    for (const i of neighborsOf(this.map, state.picked)) {
      context.globalAlpha = 0.45;
      context.beginPath();
      context.moveTo(...from);
      context.lineTo(...this.toScreen(i));
      context.stroke();
      context.globalAlpha = 1;
      this.ring(context, i, theme.ink, 1.6, 2.5);
    }
    this.ring(context, state.picked, theme.ink, 3, 5);
  }

  ring(context, i, color, width, distance) {
    const place = this.drawn.find((picture) => picture.i === i), [x, y] = this.toScreen(i);
    context.beginPath();
    if (place) context.roundRect(x - place.size / 2 - 1, y - place.size / 2 - 1, place.size + 2, place.size + 2, 3);
    else {
      context.arc(x, y, this.radius + distance, 0, 7);
      context.fillStyle = css(this.colorOf(i));
    }
    context.lineWidth = width + 2;
    context.strokeStyle = css(theme.canvas);
    context.stroke();
    if (!place) context.fill();
    context.lineWidth = width;
    context.strokeStyle = css(color);
    context.stroke();
  }

  drawNames(context) {
    this.clusters ||= nameClusters(this.goal, groupingOf(this.number));
    const least = count * 0.012 / this.camera.zoom ** 2, boxes = [];
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    for (const { name, x, y, size, group } of this.clusters) {
      if (size < least || state.hidden.has(group)) continue;
      const big = size > count * 0.03;
      context.font = `${big ? 650 : 600} ${big ? 14 : 12}px system-ui, "Segoe UI", "DejaVu Sans", sans-serif`;
      const label = name.length > 26 ? `${name.slice(0, 25)}…` : name, width = context.measureText(label).width;
      const left = this.width / 2 + (x - this.camera.x) * this.scale, top = this.height / 2 - (y - this.camera.y) * this.scale;
      const box = [left - width / 2 - 5, top - 10, left + width / 2 + 5, top + 10];
      if (boxes.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) continue;
      boxes.push(box);
      context.lineWidth = 4;
      context.strokeStyle = css(theme.canvas);
      context.globalAlpha = 0.85;
      context.strokeText(label, left, top);
      context.globalAlpha = 1;
      context.fillStyle = css(theme.ink);
      context.fillText(label, left, top);
    }
  }

  drawPath(context) {
    context.beginPath();
    this.path.forEach(([x, y]) => context.lineTo(x, y));
    context.closePath();
    context.fillStyle = css(theme.accent);
    context.globalAlpha = 0.14;
    context.fill();
    context.globalAlpha = 1;
    context.lineWidth = 1.5;
    context.strokeStyle = css(theme.accent);
    context.stroke();
  }

  colorOf(i) {
    return themed(groupingOf(this.number).shade(i));
  }

  /** The image at a place of the screen: a picture that covers it, else the nearest dot within reach; -1 if there is none. */
  imageAt(x, y, reach) {
    for (const place of this.drawn) {
      if (Math.abs(place.x - x) <= place.size / 2 && Math.abs(place.y - y) <= place.size / 2) return place.i;
    }
    this.grid ||= gridOf(this.goal);
    const [worldX, worldY] = this.toWorld(x, y), visible = state.visible[this.number];
    let best = -1, nearest = (reach / this.scale) ** 2;
    this.grid.around(worldX, worldY, reach / this.scale, (i) => {
      const distance = (this.goal[2 * i] - worldX) ** 2 + (this.goal[2 * i + 1] - worldY) ** 2;
      if (visible[i] && distance <= nearest) [best, nearest] = [i, distance];
    });
    return best;
  }

  /** The images inside a closed path on the screen. */
  imagesInside(path) {
    const visible = state.visible[this.number], found = [];
    for (let i = 0; i < count; i++) {
      if (!visible[i]) continue;
      const [x, y] = this.toScreen(i);
      let inside = false;
      for (let a = 0, b = path.length - 1; a < path.length; b = a++) {
        const [ax, ay] = path[a], [bx, by] = path[b];
        if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
      }
      if (inside) found.push(i);
    }
    return found;
  }
}

/** The pixels that a dot covers, and how much, for the 16 places within a pixel that its middle can have. */
function dotMask(radius, width) {
  const reach = Math.ceil(radius + 1), places = [];
  for (let place = 0; place < 16; place++) {
    const offsets = [], alphas = [];
    for (let y = -reach; y <= reach; y++) {
      for (let x = -reach; x <= reach; x++) {
        const distance = Math.hypot(x + 0.5 - ((place & 3) + 0.5) / 4, y + 0.5 - ((place >> 2) + 0.5) / 4);
        const alpha = Math.round(215 * Math.min(1, Math.max(0, radius + 0.5 - distance)));
        if (alpha > 0) offsets.push(y * width + x) && alphas.push(alpha);
      }
    }
    places.push({ offsets: Int32Array.from(offsets), alphas: Int32Array.from(alphas) });
  }
  return { reach, places };
}

function packed([red, green, blue]) {
  return (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
}

/** The images sorted into square cells, so that those around a place are found at once. */
function gridOf(world) {
  const side = Math.max(1, Math.min(512, Math.round(Math.sqrt(count))));
  const cell = (value) => Math.min(side - 1, Math.max(0, Math.floor(((value + 1) / 2) * side)));
  const starts = new Uint32Array(side * side + 1), sorted = new Uint32Array(count);
  const cells = Uint32Array.from({ length: count }, (_, i) => cell(world[2 * i + 1]) * side + cell(world[2 * i]));
  for (const at of cells) starts[at + 1]++;
  for (let at = 0; at < side * side; at++) starts[at + 1] += starts[at];
  const next = starts.slice();
  for (let i = 0; i < count; i++) sorted[next[cells[i]]++] = i;
  return {
    around(x, y, reach, visit) {
      for (let row = cell(y - reach); row <= cell(y + reach); row++) {
        for (let at = row * side + cell(x - reach), end = row * side + cell(x + reach); at <= end; at++) {
          for (let k = starts[at]; k < starts[at + 1]; k++) visit(sorted[k]);
        }
      }
    },
  };
}
