// The two curves, drawn small. Each says in words what it shows.

import { percent, s, some, whole } from "./dom.js";

const W = 340;
const H = 124;
const LEFT = 38;
const RIGHT = 52; // for the newest value, beside the curve's end
const TOP = 8;
const BOTTOM = 22;
const DOTS_MAX = 40;
const LINE = 13; // of text

const SERIES = { evaluation: "evaluation", control: "control", "stopping set": "control" }; // and how it is drawn

export function learningChart(points) {
  if (!points.length) return null;
  const series = Object.entries(SERIES)
    .map(([on, name]) => ({ name, points: points.filter((point) => point.measured_on === on) }))
    .filter(({ points: own }) => own.length);
  const total = (point) => point.labels + point.auto_labels;
  const x = scale([0, Math.max(...points.map(total))], [LEFT, W - RIGHT]);
  const y = scale(range(points.flatMap((point) => [point.low, point.high])), [H - BOTTOM, TOP]);
  const svg = frame(`Accuracy by labels: ${learningWords(points)}`, x, y, "labels");
  for (const { name, points: own } of series) {
    const known = own.filter((point) => point.value !== null); // the others are ranges
    const places = known.map((point) => [x(total(point)), y(point.value)]);
    const band = [
      ...own.map((point) => [x(total(point)), y(point.high)]),
      ...own.map((point) => [x(total(point)), y(point.low)]).reverse(),
    ];
    svg.append(s("polygon", { class: `band ${name}`, points: listed(band) }));
    if (places.length) svg.append(...line(places, name, known.at(-1).short));
  }
  return svg;
}

export function learningWords(points) {
  if (!points.length) return "No accuracy is known yet. It is measured on an evaluation set or on control samples.";
  const newest = points.at(-1);
  const with_ = newest.auto_labels ? ` and ${whole(newest.auto_labels)} of its own` : "";
  return `With ${some(newest.labels, "label")}${with_}: ${newest.text}.`;
}

export function confidenceChart(batches) {
  if (!batches.length) return null;
  const x = scale([0, Math.max(1, ...batches.map((batch) => batch.labels))], [LEFT, W - RIGHT]);
  const y = scale([0, 1], [H - BOTTOM, TOP]);
  const svg = frame(`Confidence by labels: ${confidenceWords(batches)}`, x, y, "labels");
  for (const name of ["mean", "least"]) {
    const places = batches.map((batch) => [x(batch.labels), y(batch[name])]);
    svg.append(...line(places, name, name));
  }
  spread(svg);
  return svg;
}

export function confidenceWords(batches) {
  if (!batches.length) return "The first round is chosen without a model.";
  const { mean, least } = batches.at(-1);
  return `Newest batch: ${percent(mean, 0)} sure on average, ${percent(least, 0)} at the least.`;
}

// The newest batch, sample by sample.
export function batchChart(sureness) {
  if (!sureness.length) return null;
  const height = 24;
  const step = (W - LEFT - RIGHT) / sureness.length;
  const words = `The newest batch by sureness: ${some(sureness.length, "sample")}, from ${percent(sureness[0], 0)} to ${percent(sureness.at(-1), 0)}`;
  const bars = sureness.map((sure, i) =>
    s("rect", {
      class: "bar-mark",
      x: LEFT + i * step,
      y: height - Math.max(1, sure * height),
      width: Math.max(0.5, step - Math.min(2, step / 4)),
      height: Math.max(1, sure * height),
      rx: Math.min(2, step / 4),
    }),
  );
  const base = s("line", { class: "axis", x1: LEFT, x2: W - RIGHT, y1: height, y2: height });
  const name = s("text", { class: "tick end", x: W, y: height - 2 }, "batch");
  return s("svg", { viewBox: `0 0 ${W} ${height + 2}`, role: "img", "aria-label": words }, base, ...bars, name);
}

function frame(words, x, y, unit) {
  const svg = s("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": words });
  for (const at of ticks(y.from, 4)) {
    svg.append(s("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: y(at), y2: y(at) }));
    svg.append(s("text", { class: "tick end", x: LEFT - 6, y: y(at) + 4 }, `${Math.round(100 * at)} %`));
  }
  for (const at of ticks(x.from, 4)) {
    svg.append(s("text", { class: "tick middle", x: x(at), y: H - BOTTOM + 16 }, whole(at)));
  }
  svg.append(s("text", { class: "tick end", x: W, y: H - BOTTOM + 16 }, unit));
  return svg;
}

function line(places, name, said) {
  const [endX, endY] = places.at(-1);
  const dots = places.length <= DOTS_MAX ? places : [places.at(-1)];
  return [
    s("polyline", { class: `line ${name}`, points: listed(places) }),
    ...dots.map(([cx, cy], i) => s("circle", { class: `dot-mark ${name}`, cx, cy, r: i === dots.length - 1 ? 3.6 : 1.8 })),
    s("text", { class: `said ${name}`, x: endX + 8, y: endY + 4 }, said),
  ];
}

// Texts at the ends of two curves that meet must not lie upon each other, nor beyond the drawing's edges.
function spread(svg) {
  const [upper, lower] = [...svg.querySelectorAll(".said")].sort((a, b) => a.getAttribute("y") - b.getAttribute("y"));
  const y = (text) => Number(text.getAttribute("y"));
  const missing = Math.max(0, LINE - (y(lower) - y(upper)));
  const top = Math.min(Math.max(y(upper) - missing / 2, LINE), H - BOTTOM - LINE);
  upper.setAttribute("y", top);
  lower.setAttribute("y", Math.max(y(lower) + missing / 2, top + LINE));
}

function scale(from, to) {
  const width = from[1] - from[0] || 1;
  const at = (value) => to[0] + ((value - from[0]) / width) * (to[1] - to[0]);
  at.from = from;
  return at;
}

function range(shares) {
  const low = Math.floor(10 * Math.min(...shares)) / 10;
  const high = Math.min(1, Math.ceil(10 * Math.max(...shares)) / 10);
  return [low, Math.max(high, low + 0.1)];
}

// Round numbers in a range, at most `most` steps.
function ticks([low, high], most) {
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough - 1e-9);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step).filter((at) => high <= 1 || at % 1 === 0);
}

function listed(places) {
  return places.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
}
