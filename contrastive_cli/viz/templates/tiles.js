// Pictures: cut out of their atlases when they are wanted, and kept in one canvas of the last few thousand of them.
// Browsers forget decoded atlases as they like, and decoding one for every picture of a frame would stall the page.

const SLOTS_PER_ROW = 64;
const SLOTS = SLOTS_PER_ROW * SLOTS_PER_ROW;

const tiles = page.tiles && { ...page.tiles, place: unpack(page.tiles.place, Int32Array) }; // [N] tile, -1 if there is none
const atlases = [...document.querySelectorAll("script.atlas")].map((script) => ({ script }));
const kept = tiles && {
  canvas: element("canvas", { width: SLOTS_PER_ROW * tiles.size, height: SLOTS_PER_ROW * tiles.size }),
  slot: new Int32Array(count).fill(-1), // of each image
  owner: new Int32Array(SLOTS).fill(-1), // the image in each slot
  used: new Uint32Array(SLOTS), // when it was last asked for
  clock: 0,
  hand: 0, // where the search for a free slot goes on
  wanted: new Set(),
  copying: false,
};

function hasPicture(i) {
  return Boolean(tiles) && tiles.place[i] >= 0;
}

/** Where the picture of an image lies in the canvas of kept ones; undefined if it has none, or not yet. */
function tileOf(i) {
  if (!hasPicture(i)) return undefined;
  const slot = kept.slot[i];
  if (slot >= 0) {
    kept.used[slot] = kept.clock;
    return { x: (slot % SLOTS_PER_ROW) * tiles.size, y: Math.floor(slot / SLOTS_PER_ROW) * tiles.size };
  }
  kept.wanted.add(i);
  if (!kept.copying) {
    kept.copying = true;
    setTimeout(copyTiles);
  }
  return undefined;
}

/** Copy what is wanted, atlas by atlas, so that each is decoded once; draw after each. */
async function copyTiles() {
  while (kept.wanted.size) {
    const byAtlas = new Map();
    for (const i of kept.wanted) {
      const number = Math.floor(tiles.place[i] / tiles.perAtlas);
      byAtlas.set(number, [...(byAtlas.get(number) || []), i]);
    }
    kept.wanted.clear();
    for (const [number, images] of byAtlas) {
      const atlas = await loaded(atlases[number]);
      kept.clock++;
      images.forEach((i) => copyTile(atlas, i));
      requestDrawing();
      refreshPictures();
      await new Promise((done) => { setTimeout(done); });
    }
  }
  kept.copying = false;
}

async function loaded(atlas) {
  if (!atlas.image) {
    atlas.image = new Image();
    atlas.image.src = `data:image/webp;base64,${atlas.script.textContent}`;
    atlas.script.remove();
    atlas.script = undefined;
  }
  await atlas.image.decode();
  return atlas.image;
}

function copyTile(atlas, i) {
  let tries = 0;
  while (kept.owner[kept.hand] >= 0 && kept.used[kept.hand] + 3 > kept.clock && tries++ < SLOTS) kept.hand = (kept.hand + 1) % SLOTS;
  const slot = kept.hand, { size } = tiles, within = tiles.place[i] % tiles.perAtlas;
  kept.hand = (slot + 1) % SLOTS;
  if (kept.owner[slot] >= 0) kept.slot[kept.owner[slot]] = -1;
  kept.owner[slot] = i;
  kept.slot[i] = slot;
  kept.used[slot] = kept.clock;
  kept.canvas.getContext("2d").drawImage(
    atlas, (within % tiles.columns) * size, Math.floor(within / tiles.columns) * size, size, size,
    (slot % SLOTS_PER_ROW) * size, Math.floor(slot / SLOTS_PER_ROW) * size, size, size,
  );
}

/** A canvas with the picture of an image, or its name where there is none. */
function picture(i) {
  if (!hasPicture(i)) return element("span", { className: "none", textContent: shortName(i) });
  const canvas = element("canvas", { width: tiles.size, height: tiles.size });
  canvas.image = i;
  paintPicture(canvas);
  return canvas;
}

function paintPicture(canvas) {
  if (canvas.painted) return;
  const tile = tileOf(canvas.image);
  if (!tile) return;
  canvas.getContext("2d").drawImage(kept.canvas, tile.x, tile.y, tiles.size, tiles.size, 0, 0, tiles.size, tiles.size);
  canvas.painted = true;
}

function refreshPictures() {
  for (const canvas of document.querySelectorAll("#panel canvas, #card canvas")) paintPicture(canvas);
}
