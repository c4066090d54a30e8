// Draws the explorer's three laws from the numbers in the page. No library, no network.
"use strict";

const numbers = JSON.parse(document.getElementById("numbers").textContent);
const control = (name) => document.getElementById(name);
const value = (name) => Number(control(name).value);
const tell = (name, text) => { control(name).textContent = text; };
const tone = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const EDGE = { left: 90, right: 24, top: 20, bottom: 64 };

// Axes of a canvas: maps of values to pixels, with a frame, ticks and names drawn.
function axes(id, x, y) {
  const canvas = control(id), pen = canvas.getContext("2d");
  const place = (axis, low, high) => (v) => {
    const f = axis.log ? Math.log : (u) => u;
    return low + (high - low) * (f(v) - f(axis.from)) / (f(axis.to) - f(axis.from));
  };
  const px = place(x, EDGE.left, canvas.width - EDGE.right);
  const py = place(y, canvas.height - EDGE.bottom, EDGE.top);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.font = "20px system-ui, 'DejaVu Sans', sans-serif";
  pen.lineWidth = 1;
  for (const tick of x.ticks) {
    line(pen, [[px(tick), py(y.from)], [px(tick), py(y.to)]], tone("--line"), 1);
    pen.fillStyle = tone("--ink"); pen.textAlign = "center"; pen.textBaseline = "top";
    pen.fillText(String(tick), px(tick), py(y.from) + 8);
  }
  for (const tick of y.ticks) {
    line(pen, [[px(x.from), py(tick)], [px(x.to), py(tick)]], tone("--line"), 1);
    pen.fillStyle = tone("--ink"); pen.textAlign = "right"; pen.textBaseline = "middle";
    pen.fillText(String(tick), px(x.from) - 10, py(tick));
  }
  pen.textAlign = "center"; pen.textBaseline = "bottom";
  pen.fillText(x.name, (px(x.from) + px(x.to)) / 2, canvas.height - 4);
  pen.save(); pen.translate(22, (py(y.from) + py(y.to)) / 2); pen.rotate(-Math.PI / 2);
  pen.textBaseline = "middle"; pen.fillText(y.name, 0, 0); pen.restore();
  return { pen, px, py };
}

// A polyline; a point that is null leaves a gap.
function line(pen, points, color, width, dash = []) {
  pen.beginPath(); pen.strokeStyle = color; pen.lineWidth = width; pen.setLineDash(dash);
  let down = false;
  for (const point of points) {
    if (point === null) { down = false; continue; }
    if (down) pen.lineTo(...point); else pen.moveTo(...point);
    down = true;
  }
  pen.stroke(); pen.setLineDash([]);
}

function dot(pen, x, y, color) {
  pen.beginPath(); pen.fillStyle = color; pen.arc(x, y, 8, 0, 2 * Math.PI); pen.fill();
}

function drawSurface() {
  const { ratio, lambda, signal, noise } = numbers.surface;
  const chosen = value("surface-ridge"), tau = value("surface-noise"), width = value("surface-width");
  const risk = (i) => signal[chosen].map((s, k) => (s === null ? null : s + (i ? tau * noise[chosen][k] : 0)));
  const y = { from: 0.01, to: 100, log: true, ticks: [0.01, 0.1, 1, 10, 100], name: "excess risk" };
  const x = { from: 0.05, to: 10, log: true, ticks: [0.1, 0.3, 1, 3, 10], name: "features per sample, N/n" };
  const { pen, px, py } = axes("surface", x, y);
  const inside = (v) => Math.min(Math.max(v, y.from), y.to);
  const path = (values) => values.map((v, k) => (v === null ? null : [px(ratio[k]), py(inside(v))]));
  line(pen, path(risk(0)), tone("--faint"), 3, [8, 6]);
  line(pen, path(risk(1)), tone("--link"), 4);
  const here = risk(1)[width];
  if (here !== null) dot(pen, px(ratio[width]), py(inside(here)), tone("--bad"));
  tell("surface-ridge-value", lambda[chosen]);
  tell("surface-noise-value", tau.toFixed(2));
  tell("surface-width-value", ratio[width].toPrecision(3));
  tell("surface-said", `Excess risk ${here === null ? "is infinite" : here.toPrecision(3)}; dashed: without noise.`);
}

function drawPhases() {
  const { weight, bias, correlation } = numbers.phases;
  const depth = value("phases-depth"), i = value("phases-weight"), j = value("phases-bias");
  const x = { from: 0.45, to: 3.05, ticks: [0.5, 1, 1.5, 2, 2.5, 3], name: "weight scale σ_w" };
  const y = { from: -1 / 30, to: 1 + 1 / 30, ticks: [0, 0.25, 0.5, 0.75, 1], name: "bias scale σ_b" };
  const { pen, px, py } = axes("phases", x, y);
  const table = correlation[depth - 1];
  for (let row = 0; row < bias.length; row++) {
    for (let column = 0; column < weight.length; column++) {
      const left = px(weight[column] - 0.05), top = py(bias[row] + 1 / 30);
      pen.fillStyle = shade(table[row][column]);
      pen.fillRect(left, top, px(weight[column] + 0.05) - left + 1, py(bias[row] - 1 / 30) - top + 1);
    }
  }
  pen.strokeStyle = tone("--bad"); pen.lineWidth = 4;
  const left = px(weight[i] - 0.05), top = py(bias[j] + 1 / 30);
  pen.strokeRect(left, top, px(weight[i] + 0.05) - left, py(bias[j] - 1 / 30) - top);
  tell("phases-depth-value", depth);
  tell("phases-weight-value", weight[i].toFixed(1));
  tell("phases-bias-value", bias[j].toFixed(2));
  const found = table[j][i];
  tell("phases-said", `Correlation ${found === null ? "is not defined: no signal is left" : found.toFixed(3)}.`);
}

// Dark blue at 0 to light yellow at 1, even in lightness.
function shade(c) {
  if (c === null) return tone("--panel");
  const ends = [[0, 32, 76], [124, 123, 120], [255, 233, 69]];
  const u = Math.min(Math.max(c, 0), 1) * 2, k = Math.min(Math.floor(u), 1);
  return `rgb(${ends[k].map((v, m) => Math.round(v + (ends[k + 1][m] - v) * (u - k))).join(",")})`;
}

function drawRichness() {
  const { time, gamma, output } = numbers.richness;
  const chosen = value("richness-gamma");
  const x = { from: 0, to: 2, ticks: [0, 0.5, 1, 1.5, 2], name: "training time" };
  const { pen, px, py } = axes("richness", x, { from: 0, to: 1.05, ticks: [0, 0.25, 0.5, 0.75, 1], name: "output" });
  const path = (row) => output[row].map((v, k) => [px(time[k]), py(v)]);
  line(pen, path(0), tone("--faint"), 3, [8, 6]);
  line(pen, path(chosen), tone("--link"), 4);
  tell("richness-gamma-value", gamma[chosen]);
  const half = time[output[chosen].findIndex((v) => v >= 0.5)];
  tell("richness-said", `Half of the label is learned by time ${half.toFixed(2)}; dashed: lazy.`);
}

const panels = { surface: drawSurface, phases: drawPhases, richness: drawRichness };
for (const input of document.querySelectorAll("input[type=range]")) {
  input.addEventListener("input", panels[input.id.split("-")[0]]);
}
const drawAll = () => Object.values(panels).forEach((draw) => draw());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
drawAll();
