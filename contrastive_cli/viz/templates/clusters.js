// Names on the map: of the places where one line of the legend has the majority.

/** Places of the map where one group has the majority: cells of a coarse grid, joined when they touch, largest first. */
function nameClusters(world, { of, groups }) {
  if (!groupsAreNames()) return [];
  const side = Math.round(Math.min(44, Math.max(8, 0.45 * Math.sqrt(count)))), counts = new Map();
  const cell = (value) => Math.min(side - 1, Math.max(0, Math.floor(((value + 1) / 2) * side)));
  for (let i = 0; i < count; i++) {
    const key = (cell(world[2 * i + 1]) * side + cell(world[2 * i])) * groups.length + of[i];
    counts.set(key, (counts.get(key) || 0) + 1);
  }
  const totals = new Float64Array(side * side), bests = new Int32Array(side * side).fill(-1), most = new Float64Array(side * side);
  const smooth = new Map(); // a cell counts, and its neighbors count half
  for (const [key, number] of counts) {
    const group = key % groups.length, at = Math.floor(key / groups.length), row = Math.floor(at / side), column = at % side;
    for (let r = Math.max(0, row - 1); r <= Math.min(side - 1, row + 1); r++) {
      for (let c = Math.max(0, column - 1); c <= Math.min(side - 1, column + 1); c++) {
        const weight = r === row && c === column ? number : number / 2, near = r * side + c;
        const value = (smooth.get(near * groups.length + group) || 0) + weight;
        smooth.set(near * groups.length + group, value);
        totals[near] += weight;
        if (value > most[near]) [most[near], bests[near]] = [value, group];
      }
    }
  }
  const enough = Math.max(2, count / (side * side)), seen = new Uint8Array(side * side), found = [];
  const member = (at, group) => bests[at] === group && !groups[group].rest && totals[at] >= enough && most[at] >= 0.4 * totals[at];
  for (let start = 0; start < side * side; start++) {
    const group = bests[start];
    if (seen[start] || group < 0 || !member(start, group)) continue;
    const cells = [start];
    seen[start] = 1;
    for (let next = 0; next < cells.length; next++) {
      const at = cells[next], column = at % side;
      for (const near of [column > 0 ? at - 1 : -1, column < side - 1 ? at + 1 : -1, at - side, at + side]) {
        if (near < 0 || near >= side * side || seen[near] || !member(near, group)) continue;
        seen[near] = 1;
        cells.push(near);
      }
    }
    const number = (at) => counts.get(at * groups.length + group) || 0;
    const size = cells.reduce((sum, at) => sum + number(at), 0);
    if (size < 5) continue;
    const x = cells.reduce((sum, at) => sum + number(at) * (at % side), 0) / size;
    const y = cells.reduce((sum, at) => sum + number(at) * Math.floor(at / side), 0) / size;
    found.push({ name: shown(groups[group].name), group, size, x: ((x + 0.5) / side) * 2 - 1, y: ((y + 0.5) / side) * 2 - 1 });
  }
  return found.sort((a, b) => b.size - a.size);
}
