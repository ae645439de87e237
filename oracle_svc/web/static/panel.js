// Beside the image: what the labels did.

import { batchChart, confidenceChart, confidenceWords, learningChart, learningWords } from "./charts.js";
import { h, percent, some, whole } from "./dom.js";

export function showPanel(now, curves, classes, at) {
  at("last").replaceChildren(...lastLabel(now, classes), ...round(now), ...change(curves.change), ...agreement(now));
  chart(at("learning"), [learningChart(curves.learning)], learningWords(curves.learning));
  chart(at("confidence"), [confidenceChart(curves.confidence), batchChart(curves.newest_batch)], confidenceWords(curves.confidence));
  counts(now.counts, classes, at);
}

function chart(box, drawings, words) {
  box.replaceChildren(...drawings.filter(Boolean), h("p", { class: "small pale" }, words));
}

function lastLabel({ last }, classes) {
  if (!last) return [h("p", { class: "pale" }, "No label yet: the first one shows here.")];
  const name = (label) => classes[label] ?? `class ${label}`;
  const by = last.annotator ? h("span", { class: "pale" }, ` by ${last.annotator}`) : null;
  const head = h("p", { class: "big" }, h("b", {}, name(last.label)), by);
  if (!last.opinion) return [head];
  const { label, confidence, agreed } = last.opinion;
  const verdict = agreed ? h("b", { class: "chip yes" }, "agreed") : h("b", { class: "chip no" }, "differed");
  const said = h("p", {}, "The model said ", h("b", {}, name(label)), `, ${percent(confidence, 0)} sure `, verdict);
  return [head, said];
}

function round(now) {
  if (!now.batch || now.ended) return [];
  const done = now.batch - now.open;
  const words = now.open ? `${some(now.open, "label")} more until the model learns again` : "The model is learning from them";
  const meter = h("progress", { max: now.batch, value: done, "aria-label": "Labels of this round" });
  return [h("div", { class: "round" }, meter, h("span", { class: "small pale" }, words))];
}

function change(ended) {
  if (!ended) return [];
  const { before, after } = ended;
  return [
    h(
      "p",
      { class: "change" },
      `Round ${ended.round + 1}: ${after.name} `,
      h("b", {}, `${before.headline} → ${after.headline}`),
      after.beside || null,
      gain(ended.gain_per_label),
    ),
  ];
}

// Unless the two intervals lie apart, the difference may be chance.
function gain(perLabel) {
  if (perLabel === null) return h("span", { class: "small pale" }, "may be chance");
  const points = 100 * perLabel;
  const said = `${points < 0 ? "−" : "+"}${Math.abs(points).toFixed(2)} points a label`;
  return h("span", { class: points < 0 ? "no small" : "yes small" }, said);
}

function agreement({ agreed, compared, agreement: share }) {
  if (!compared) return [];
  const said = `People and model agree on ${whole(agreed)} of ${some(compared, "sample")}${share ? ` (${share})` : ""}.`;
  return [h("p", { class: "small pale" }, said)];
}

function counts(perClass, classes, at) {
  const rows = classes.map((name, i) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, whole(perClass[i] ?? 0))));
  at("counts").replaceChildren(...rows);
  for (const [i, button] of [...at("classes").children].entries()) {
    button.querySelector(".so-far").textContent = perClass[i] ? whole(perClass[i]) : "";
  }
}
