
"use strict";
// All text goes in by textContent: names and values are the user's, and are never markup.
const EVERY = 1000, HEIGHT = 190, TALL = 280, LEFT = 58, RIGHT = 12, TOP = 8, BOTTOM = 24;
const byId = (id) => document.getElementById(id);
let version = "", told = null, drawnWidth = 0;

function put(parent, tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  parent.append(made);
  return made;
}
function shape(parent, tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const name in attributes) made.setAttribute(name, attributes[name]);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}
function short(value) {
  if (value === null || !isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size && (size < 1e-3 || size >= 1e7)) return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  return size >= 1000 ? Math.round(value).toLocaleString("en") : String(+value.toPrecision(4));
}
function ticks(low, high, most) {
  const rough = (high - low) / Math.max(most, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= rough);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high + step * 1e-9; k++) found.push(+(k * step).toPrecision(12));
  return found;
}
function logTicks(low, high) {
  const first = Math.floor(low), last = Math.ceil(high), found = [];
  const every = Math.ceil((last - first) / 5), inside = high - low < 2.3 ? [1, 2, 5] : [1];
  for (let k = first; k <= last; k += every)
    for (const m of inside) if (k + Math.log10(m) >= low && k + Math.log10(m) <= high) found.push(k + Math.log10(m));
  return found;
}
function path(xs, ys, px, py) {
  let d = "", pen = "M";
  for (let k = 0; k < xs.length; k++) {
    const y = ys[k] === null ? NaN : py(ys[k]);
    if (!isFinite(y)) { pen = "M"; continue; }
    d += pen + px(xs[k]).toFixed(1) + " " + y.toFixed(1);
    pen = "L";
  }
  return d;
}
function limits(panel) {
  // The few highest and lowest values of a long line, such as a spike, must not flatten it.
  let all = [], x0 = Infinity, x1 = -Infinity;
  for (const { x, y, smooth } of panel.lines) {
    const usable = (values) => values.filter((v) => v !== null && (v > 0 || !panel.log)).sort((a, b) => a - b);
    const raw = usable(y), rim = raw.length > 50 ? Math.floor(raw.length * 0.01) : 0;
    all.push(raw[rim], raw[raw.length - 1 - rim], ...(smooth ? usable(smooth[1]) : []));
    x0 = Math.min(x0, x[0]); x1 = Math.max(x1, x[x.length - 1]);
  }
  all = all.filter((v) => v !== undefined);
  let low = Math.min(...all), high = Math.max(...all);
  if (panel.log) { low = Math.log10(low); high = Math.log10(high); }
  const pad = (high - low || Math.abs(high) || 1) * 0.06;
  const floor = !panel.log && low >= 0 && low < 0.3 * high ? 0 : low - pad;
  return { x0, x1: x1 > x0 ? x1 : x0 + 1, low: floor, high: high + pad };
}
function chart(parent, panel, index) {
  const box = put(parent, "div", undefined, "chart" + (index ? "" : " wide"));
  const head = put(box, "header");
  put(head, "h2", panel.title);
  const key = put(head, "span", undefined, "key");
  const width = Math.max(box.clientWidth - 24, 120), height = index ? HEIGHT : TALL;
  const svg = shape(box, "svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img" });
  svg.setAttribute("aria-label", panel.title + " over steps");
  const { x0, x1, low, high } = limits(panel);
  const px = (x) => LEFT + ((x - x0) / (x1 - x0)) * (width - LEFT - RIGHT);
  const place = (v) => height - BOTTOM - ((v - low) / (high - low)) * (height - TOP - BOTTOM);
  const py = (y) => place(panel.log ? (y > 0 ? Math.log10(y) : NaN) : y);
  for (const v of panel.log ? logTicks(low, high) : ticks(low, high, height / 48)) {
    const y = place(v).toFixed(1);
    shape(svg, "line", { x1: LEFT, x2: width - RIGHT, y1: y, y2: y, class: "grid" });
    shape(svg, "text", { x: LEFT - 6, y: +y + 4, "text-anchor": "end" }, short(panel.log ? 10 ** v : v));
  }
  for (const v of ticks(x0, x1, width / 75)) {
    if (v % 1) continue;
    const x = px(v), last = x > width - 34;
    shape(svg, "text", { x: last ? width : x, y: height - 6, "text-anchor": last ? "end" : "middle" }, v.toLocaleString("en"));
  }
  const clip = "clip" + index;
  shape(shape(svg, "clipPath", { id: clip }), "rect", { x: LEFT - 2, y: 0, width: width - LEFT - RIGHT + 6, height: height - BOTTOM + 2 });
  const group = shape(svg, "g", { "clip-path": `url(#${clip})` });
  const labels = panel.lines.map((line, k) => {
    const hue = "k" + (panel.lines.length > 1 || !index ? k % 4 : panel.title === "learning rate" ? 2 : 0);
    if (line.faint) shape(group, "path", { d: path(line.x, line.y, px, py), class: hue + " faint" });
    const [xs, ys] = line.smooth || [line.x, line.y];
    shape(group, "path", { d: path(xs, ys, px, py), class: hue });
    if (line.x.length < 8) line.x.forEach((x, j) => {
      const y = line.y[j] === null ? NaN : py(line.y[j]);
      if (isFinite(y)) shape(group, "circle", { cx: px(x), cy: y, r: 2.6, class: hue });
    });
    const label = put(key, "span", undefined, hue);
    put(label, "i");
    return { line, text: put(label, "span"), name: panel.lines.length > 1 || line.name !== panel.title ? line.name : "" };
  });
  const cross = shape(svg, "line", { y1: TOP, y2: height - BOTTOM, class: "cross", visibility: "hidden" });
  function read(x) {
    for (const { line, text, name } of labels) {
      const [xs, ys] = line.smooth || [line.x, line.y];
      let k = 0;
      while (x !== null && k < xs.length - 1 && xs[k + 1] <= x) k++;
      while (k > 0 && ys[k] === null) k--;
      const shown = x === null ? short(line.last) : short(ys[k]) + " at " + Math.round(xs[k]).toLocaleString("en");
      text.textContent = (name ? name + " " : "") + shown;
    }
  }
  read(null);
  svg.addEventListener("pointermove", (event) => {
    const at = ((event.clientX - svg.getBoundingClientRect().left) / svg.clientWidth) * width;
    const x = Math.min(Math.max(at, LEFT), width - RIGHT);
    cross.setAttribute("x1", x); cross.setAttribute("x2", x); cross.setAttribute("visibility", "visible");
    read(x0 + ((x - LEFT) / (width - LEFT - RIGHT)) * (x1 - x0));
  });
  svg.addEventListener("pointerleave", () => { cross.setAttribute("visibility", "hidden"); read(null); });
}
function draw() {
  byId("name").textContent = told.name;
  document.title = told.name + " – stepsize watch";
  const trouble = [told.problem && "the file cannot be followed: " + told.problem, told.empty, told.bad].filter(Boolean).join("; ");
  byId("trouble").textContent = trouble;
  byId("trouble").hidden = !trouble;
  const found = told.diagnosis;
  byId("verdict").hidden = !found;
  if (found) {
    byId("verdict").className = "verdict " + found.tone;
    byId("lead").textContent = found.lead;
    byId("share").textContent = [found.share && found.verdict + ", " + found.share + " probable", found.note].filter(Boolean).join("; ");
    byId("rest").textContent = found.rest;
  }
  const latest = byId("latest"), charts = byId("charts"), facts = byId("facts");
  latest.replaceChildren();
  for (const [name, value] of told.latest) {
    const card = put(latest, "div", undefined, "card");
    put(card, "strong", value);
    put(card, "span", name).title = name;
  }
  const before = window.scrollY;
  charts.replaceChildren();
  told.panels.forEach((panel, index) => chart(charts, panel, index));
  facts.replaceChildren();
  for (const [name, value] of told.facts) { put(facts, "dt", name); put(facts, "dd", value); }
  window.scrollTo(0, before);
  drawnWidth = document.documentElement.clientWidth;
}
function since(seconds) {
  if (seconds === null || seconds < 5) return "";
  const units = [[86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]];
  const [size, unit] = units.find(([one]) => seconds >= one);
  const count = Math.floor(seconds / size);
  return `, last written ${count} ${unit}${count === 1 ? "" : "s"} ago`;
}
function status(age) {
  const chip = byId("state");
  chip.textContent = told.state;
  chip.className = "chip " + told.state;
  const step = "step " + told.step.toLocaleString("en") + (told.epoch === null ? "" : ", epoch " + told.epoch.toLocaleString("en"));
  byId("where").textContent = {
    waiting: told.empty ? "" : "the file is not there yet",
    unreadable: "",
    reading: Math.floor(100 * told.read) + " % of the file read",
    ended: step + (told.stopped ? ": " + told.stopped : ""),
  }[told.state] ?? step + since(age);
}
async function ask() {
  let pause = EVERY;
  if (!document.hidden) {
    try {
      const answer = await fetch("data?since=" + encodeURIComponent(version), { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.statusText);
      const news = await answer.json();
      version = news.version;
      if (!news.same) { told = news; draw(); }
      if (told) status(news.age);
      if (told && told.state === "reading") pause = 50;
    } catch (error) {
      byId("state").textContent = "no answer";
      byId("state").className = "chip lost";
      byId("where").textContent = "stepsize watch has ended, or is busy";
    }
  }
  setTimeout(ask, pause);
}
window.addEventListener("resize", () => {
  if (told && document.documentElement.clientWidth !== drawnWidth) draw();
});
ask();
