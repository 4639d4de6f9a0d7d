"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
function floats(text) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return new Float32Array(bytes.buffer);
}
const X = floats(data.x), Y = floats(data.y), N = X.length, side = data.side;
for (const model of data.models) for (const score of model.scores) {
  score.values = score.values.map(floats);
  score.rgb = score.colours.match(/../g).map(each => parseInt(each, 16));
}
// Of the slide, or of the tiles where there is none.
const { width, height } = data;

// What is chosen.
const first = data.models[0].scores;
const state = { scores: first, score: first[0], number: 0, current: -1, places: new Float32Array(N) };
const NOTHING = new Float32Array(N).fill(NaN);  // what a model does not say is not drawn
function values() { return state.score.values[state.number] || NOTHING; }
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
function cellOf(i) {  // tiles may stand out of the slide
  return Math.max(0, Math.floor(Y[i] / cell)) * columns + Math.max(0, Math.floor(X[i] / cell));
}
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
    const x0 = Math.max(0, Math.min(picture.width - 1, Math.round(X[i] * scale)));
    const y0 = Math.max(0, Math.min(picture.height - 1, Math.round(Y[i] * scale)));
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
// OpenSeadragon moves the slide, and says here where it is; without a slide it moves a blank one.
const view = { k: 1, x: 0, y: 0 };
const BLANK = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7";
const { slide } = data;
const longest = slide ? Math.max(slide.width, slide.height) : 4096;
const size = slide || { width: Math.max(1, Math.round(longest * width / Math.max(width, height))),
  height: Math.max(1, Math.round(longest * height / Math.max(width, height))) };
const maxLevel = Math.ceil(Math.log2(Math.max(size.width, size.height, 1)));
const minLevel = slide ? maxLevel - slide.levels.length + 1 : maxLevel;
const viewer = new OpenSeadragon.Viewer({
  element: $("viewer"), drawer: "canvas", showNavigationControl: false, tabIndex: "",
  animationTime: 0, minZoomImageRatio: 0.4, maxZoomLevel: Math.max(2, width / side / 2),
  visibilityRatio: 0.2, gestureSettingsMouse: { clickToZoom: false }, placeholderFillStyle: null,
  gestureSettingsTouch: { flickEnabled: false }, imageLoaderLimit: 8, crossOriginPolicy: false,
  tileSources: {
    width: size.width, height: size.height, tileSize: slide ? data.tile : 2 * longest,
    tileOverlap: 0, minLevel, maxLevel,
    getTileUrl(level, x, y) {
      if (!slide) return BLANK;
      const across = Math.ceil(Math.ceil(size.width / 2 ** (maxLevel - level)) / data.tile);
      return slide.levels[level - minLevel][y * across + x];
    },
  },
});
function look() {
  const bounds = viewer.viewport.getBounds(true);
  view.k = canvas.width / (bounds.width * width);
  view.x = -bounds.x * width * view.k;
  view.y = -bounds.y * width * view.k;
}
function pan(x, y) {
  viewer.viewport.panBy(new OpenSeadragon.Point(x / width / view.k, y / width / view.k), true);
}
function zoom(factor) { viewer.viewport.zoomBy(factor, null, true); viewer.viewport.applyConstraints(true); }
function drawNow() {
  look();
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
  // A unit that people know, where it is known.
  const known = data.micrometres, pixels = view.k / (known || 1);
  let units = 10 ** Math.floor(Math.log10(160 * devicePixelRatio / pixels));
  for (const step of [5, 2]) if (units * step * pixels <= 160 * devicePixelRatio) { units *= step; break; }
  $("ruler").style.width = `${units * pixels / devicePixelRatio}px`;
  const shown = known && units >= 1000 ? units / 1000 : units;
  $("length").textContent = `${shown.toLocaleString("en")} ${known ? (units >= 1000 ? "mm" : "\u00b5m") : data.unit}`;
}
function draw() { viewer.forceRedraw(); }

// What is said of a tile.
function short(v) { return v !== 0 && (Math.abs(v) < 1e-3 || Math.abs(v) >= 1e5) ? v.toExponential(3) : v.toFixed(4); }
function describe(i) {
  const parts = [`tile ${i} at ${(data.origin[0] + X[i]).toLocaleString("en")}, ${(data.origin[1] + Y[i]).toLocaleString("en")}`];
  for (const score of state.scores) {
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
    pan(x - canvas.width / 2, y - canvas.height / 2);
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
  const model = $("model");
  state.scores = data.models[model ? model.value : 0].scores;
  state.score = state.scores[$("score").value];
  const select = $("class"), names = state.score.classes;
  if (!keep) {
    select.replaceChildren(...names.map((name, c) => new Option(name || "all", c)));
    select.value = Math.min(names.length - 1, names.length === 2 && data.outputs === 1 ? 1 : data.shown);
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
if ($("model")) $("model").addEventListener("change", () => rechoose(true));
$("threshold").addEventListener("input", repaint);
$("opacity").addEventListener("input", () => { $("opacity-said").textContent = `${$("opacity").value}%`; draw(); });
$("closer").addEventListener("click", () => zoom(1.5));
$("farther").addEventListener("click", () => zoom(1 / 1.5));
$("whole").addEventListener("click", () => viewer.viewport.goHome(true));
document.forms[0].addEventListener("submit", event => event.preventDefault());

const stage = $("viewer");
stage.addEventListener("pointermove", event => {
  if (event.buttons) return;
  const box = canvas.getBoundingClientRect();
  const px = (event.clientX - box.left) * canvas.width / box.width;
  const py = (event.clientY - box.top) * canvas.height / box.height;
  choose(find((px - view.x) / view.k, (py - view.y) / view.k));
});
stage.addEventListener("pointerdown", () => stage.focus({ preventScroll: true }));
const keys = {
  ArrowLeft: () => pan(-40, 0), ArrowRight: () => pan(40, 0),
  ArrowUp: () => pan(0, -40), ArrowDown: () => pan(0, 40),
  "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8),
  0: () => viewer.viewport.goHome(true), n: () => step(1), p: () => step(-1),
};
stage.addEventListener("keydown", event => {
  const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act();
});
for (const each of document.querySelectorAll("[data-tile]")) each.addEventListener("click", () => {
  const i = Number(each.dataset.tile);
  const middle = new OpenSeadragon.Point((X[i] + side / 2) / width, (Y[i] + side / 2) / width);
  viewer.viewport.panTo(middle, true);
  viewer.viewport.zoomTo(Math.min(viewer.viewport.getMaxZoom(), width / side / 8), middle, true);
  stage.scrollIntoView({ block: "nearest" });
  choose(i);
});
function resize() {
  const box = canvas.getBoundingClientRect();
  canvas.width = Math.max(1, Math.round(box.width * devicePixelRatio));
  canvas.height = Math.max(1, Math.round(box.height * devicePixelRatio));
}
const ready = new Promise(done => viewer.addOnceHandler("open", () => {
  resize();
  viewer.addHandler("update-viewport", drawNow);
  new ResizeObserver(() => { resize(); drawNow(); draw(); }).observe(canvas);
  rechoose(false);
  done();
}));
