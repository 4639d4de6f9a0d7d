"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
function floats(text) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return new Float32Array(bytes.buffer);
}
const X = floats(data.x), Y = floats(data.y), N = X.length, side = data.side;
for (const score of data.scores) {
  score.values = score.values.map(floats);
  score.rgb = score.colours.match(/../g).map(each => parseInt(each, 16));
}
let width = 0, height = 0;
for (let i = 0; i < N; i++) { width = Math.max(width, X[i] + side); height = Math.max(height, Y[i] + side); }

// What is chosen.
const state = { score: data.scores[0], number: 0, current: -1, places: new Float32Array(N) };
function values() { return state.score.values[state.number]; }
function place(v) {
  const { kind, low, high } = state.score.scale;
  const at = kind === "log" ? Math.log(v / low) / Math.log(high / low) : (v - low) / (high - low);
  return Math.min(1, Math.max(0, at));
}
// How far from where nothing is said: from the middle of a signed scale, else from its beginning.
function strength(at) { return state.score.scale.kind === "signed" ? Math.abs(2 * at - 1) : at; }
function isShown(i) { return strength(state.places[i]) >= $("threshold").value / 100; }

// Which tiles begin in which cell of a grid: to find one by its place.
const cell = Math.max(side, Math.sqrt(width * height / 4e6));
const columns = Math.ceil(width / cell) + 1, rows = Math.ceil(height / cell) + 1;
const starts = new Uint32Array(columns * rows + 1), members = new Uint32Array(N);
function cellOf(i) { return Math.floor(Y[i] / cell) * columns + Math.floor(X[i] / cell); }
for (let i = 0; i < N; i++) starts[cellOf(i) + 1]++;
for (let c = 0; c < columns * rows; c++) starts[c + 1] += starts[c];
{
  const next = starts.slice();
  for (let i = 0; i < N; i++) members[next[cellOf(i)]++] = i;
}
function find(x, y) {
  const cx = Math.floor(x / cell), cy = Math.floor(y / cell);
  let found = -1;
  for (let r = Math.max(0, cy - 1); r <= Math.min(rows - 1, cy); r++)
    for (let c = Math.max(0, cx - 1); c <= Math.min(columns - 1, cx); c++)
      for (let k = starts[r * columns + c]; k < starts[r * columns + c + 1]; k++) {
        const i = members[k];
        if (x >= X[i] && x < X[i] + side && y >= Y[i] && y < Y[i] + side && isShown(i)) found = Math.max(found, i);
      }
  return found;
}

// The tiles are painted once for each choice, and that picture is moved: a hundred thousand tiles
// need not be drawn anew for each step of the mouse.
const canvas = $("map"), context = canvas.getContext("2d");
const picture = document.createElement("canvas");
const scale = Math.min(2048 / Math.max(width, height), 16 / side);
picture.width = Math.max(1, Math.round(width * scale));
picture.height = Math.max(1, Math.round(height * scale));
const little = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;
function paint() {
  const own = picture.getContext("2d"), image = own.createImageData(picture.width, picture.height);
  const pixels = new Uint32Array(image.data.buffer), rgb = state.score.rgb, v = values();
  const table = new Uint32Array(256);
  for (let k = 0; k < 256; k++) {
    const [r, g, b] = rgb.slice(3 * k, 3 * k + 3);
    table[k] = little ? (255 << 24 | b << 16 | g << 8 | r) >>> 0 : (r << 24 | g << 16 | b << 8 | 255) >>> 0;
  }
  for (let i = 0; i < N; i++) {
    state.places[i] = place(v[i]);
    if (!isShown(i)) continue;
    const colour = table[Math.round(state.places[i] * 255)];
    const x0 = Math.min(picture.width - 1, Math.round(X[i] * scale));
    const y0 = Math.min(picture.height - 1, Math.round(Y[i] * scale));
    const x1 = Math.min(picture.width, Math.max(x0 + 1, Math.round((X[i] + side) * scale)));
    const y1 = Math.min(picture.height, Math.max(y0 + 1, Math.round((Y[i] + side) * scale)));
    for (let y = y0; y < y1; y++) pixels.fill(colour, y * picture.width + x0, y * picture.width + x1);
  }
  own.putImageData(image, 0, 0);
}
function colourOf(i) {
  const k = 3 * Math.round(state.places[i] * 255), rgb = state.score.rgb;
  return `rgb(${rgb[k]},${rgb[k + 1]},${rgb[k + 2]})`;
}

// Where one looks: a point (x, y) of the map lies at (x * view.k + view.x, ...) of the canvas.
const view = { k: 1, x: 0, y: 0 };
function fit() {
  view.k = 0.96 * Math.min(canvas.width / width, canvas.height / height);
  view.x = (canvas.width - width * view.k) / 2;
  view.y = (canvas.height - height * view.k) / 2;
}
function zoom(factor, px = canvas.width / 2, py = canvas.height / 2) {
  const least = 0.2 * Math.min(canvas.width / width, canvas.height / height);
  const k = Math.min(Math.max(view.k * factor, least), Math.max(least, 400 / side));
  view.x = px - (px - view.x) * k / view.k;
  view.y = py - (py - view.y) * k / view.k;
  view.k = k;
  draw();
}
function drawNow() {
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.globalAlpha = $("opacity").value / 100;
  context.imageSmoothingEnabled = false;
  if (view.k <= 1.5 * scale) {
    context.drawImage(picture, view.x, view.y, width * view.k, height * view.k);
  } else {  // closer than the picture is sharp, where few tiles are seen
    const c0 = Math.max(0, Math.floor(-view.x / view.k / cell) - 1), r0 = Math.max(0, Math.floor(-view.y / view.k / cell) - 1);
    const c1 = Math.min(columns - 1, Math.floor((canvas.width - view.x) / view.k / cell));
    const r1 = Math.min(rows - 1, Math.floor((canvas.height - view.y) / view.k / cell));
    for (let r = r0; r <= r1; r++)
      for (let k = starts[r * columns + c0]; c0 <= c1 && k < starts[r * columns + c1 + 1]; k++) {
        const i = members[k];
        if (!isShown(i)) continue;
        const x = Math.round(X[i] * view.k + view.x), y = Math.round(Y[i] * view.k + view.y);
        context.fillStyle = colourOf(i);
        context.fillRect(x, y, Math.round((X[i] + side) * view.k + view.x) - x, Math.round((Y[i] + side) * view.k + view.y) - y);
      }
  }
  context.globalAlpha = 1;
  if (state.current >= 0) {
    const i = state.current, size = side * view.k;
    context.lineWidth = 2 * devicePixelRatio;
    for (const [colour, out] of [["#000", 2], ["#ffd400", 4]]) {
      context.strokeStyle = colour;
      context.strokeRect(X[i] * view.k + view.x - out, Y[i] * view.k + view.y - out, size + 2 * out, size + 2 * out);
    }
  }
  let units = 10 ** Math.floor(Math.log10(160 * devicePixelRatio / view.k));
  for (const step of [5, 2]) if (units * step * view.k <= 160 * devicePixelRatio) { units *= step; break; }
  $("ruler").style.width = `${units * view.k / devicePixelRatio}px`;
  $("length").textContent = `${units.toLocaleString("en")} units of the coords`;
}
let waiting = false;
function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; drawNow(); });
}

// What is said of a tile.
function short(v) { return v !== 0 && (Math.abs(v) < 1e-3 || Math.abs(v) >= 1e5) ? v.toExponential(3) : v.toFixed(4); }
function describe(i) {
  const parts = [`tile ${i} at ${(data.origin[0] + X[i]).toLocaleString("en")}, ${(data.origin[1] + Y[i]).toLocaleString("en")}`];
  for (const score of data.scores) {
    const each = score.classes.map((name, c) => `${name ? name + " " : ""}${short(score.values[c][i])}`);
    parts.push(`${score.name} ${each.join(", ")}`);
  }
  return parts.join("; ");
}
function choose(i) {
  if (i === state.current) return;
  state.current = i;
  $("said").textContent = i < 0 ? "Point at a tile to read its numbers." : describe(i);
  draw();
}
let order = null;  // the tiles by the score, the highest first
function step(by) {
  if (order === null) {
    const v = values();
    order = [...Array(N).keys()].filter(isShown).sort((a, b) => v[b] - v[a]);
  }
  if (!order.length) return;
  const at = order.indexOf(state.current);
  const next = at < 0 ? 0 : Math.min(order.length - 1, Math.max(0, at + by));
  const i = order[next], x = (X[i] + side / 2) * view.k + view.x, y = (Y[i] + side / 2) * view.k + view.y;
  if (x < 0 || y < 0 || x > canvas.width || y > canvas.height) {
    view.x += canvas.width / 2 - x;
    view.y += canvas.height / 2 - y;
  }
  choose(i);
}

function repaint() {
  order = null;
  $("threshold-said").textContent = `${$("threshold").value}%`;
  $("opacity-said").textContent = `${$("opacity").value}%`;
  paint();
  if (state.current >= 0 && !isShown(state.current)) choose(-1);
  draw();
}
function rechoose(keep) {
  state.score = data.scores[$("score").value];
  const select = $("class"), names = state.score.classes;
  if (!keep) {
    select.replaceChildren(...names.map((name, c) => new Option(name || "all", c)));
    select.value = Math.min(names.length - 1, names.length === 2 && data.scores[0].classes.length === 1 ? 1 : data.shown);
    select.disabled = names.length < 2;
  }
  state.number = Number(select.value);
  const { kind, low, high } = state.score.scale, rgb = state.score.rgb;
  const stops = [];
  for (let k = 0; k < 256; k += 15) stops.push(`rgb(${rgb[3 * k]},${rgb[3 * k + 1]},${rgb[3 * k + 2]})`);
  $("colours").style.background = `linear-gradient(to right, ${stops.join(",")})`;
  $("low").textContent = `${kind === "linear" ? "" : "≤ "}${short(low)}`;
  $("high").textContent = `${kind === "linear" ? "" : "≥ "}${short(high)}`;
  $("middle").textContent = { signed: "zero in the middle", log: "logarithmic", linear: "" }[kind];
  $("colours").setAttribute("aria-label", `Colours from ${short(low)} to ${short(high)} ${$("middle").textContent}`);
  repaint();
}
$("score").addEventListener("change", () => rechoose(false));
$("class").addEventListener("change", () => rechoose(true));
$("threshold").addEventListener("input", repaint);
$("opacity").addEventListener("input", () => { $("opacity-said").textContent = `${$("opacity").value}%`; draw(); });
$("closer").addEventListener("click", () => zoom(1.5));
$("farther").addEventListener("click", () => zoom(1 / 1.5));
$("whole").addEventListener("click", () => { fit(); draw(); });
document.forms[0].addEventListener("submit", event => event.preventDefault());

function point(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height];
}
let held = null;
canvas.addEventListener("pointerdown", event => { held = point(event); canvas.setPointerCapture(event.pointerId); });
for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { held = null; });
canvas.addEventListener("pointermove", event => {
  const [px, py] = point(event);
  if (held) {
    view.x += px - held[0];
    view.y += py - held[1];
    held = [px, py];
    draw();
  } else choose(find((px - view.x) / view.k, (py - view.y) / view.k));
});
canvas.addEventListener("wheel", event => {
  event.preventDefault();
  zoom(Math.exp(-Math.max(-200, Math.min(200, event.deltaY)) / 400), ...point(event));
}, { passive: false });
const keys = {
  ArrowLeft: () => { view.x += 40; }, ArrowRight: () => { view.x -= 40; },
  ArrowUp: () => { view.y += 40; }, ArrowDown: () => { view.y -= 40; },
  "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), 0: fit,
  n: () => step(1), p: () => step(-1),
};
canvas.addEventListener("keydown", event => {
  const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act();
  draw();
});
let fitted = false;
function resize() {
  const box = canvas.getBoundingClientRect();
  canvas.width = Math.max(1, Math.round(box.width * devicePixelRatio));
  canvas.height = Math.max(1, Math.round(box.height * devicePixelRatio));
  if (!fitted) fit();
  fitted = true;
  drawNow();
}
rechoose(false);
resize();
new ResizeObserver(resize).observe(canvas);
