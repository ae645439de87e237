// Answers in this browser that the oracle has not taken yet: of other names, other runs, or somebody who was signed out.
// They are sent once that person opens the run again; here they are shown, and can be saved as a file.

import { h, some } from "./dom.js";
import { stored } from "./stored.js";

const KEY = /^labelloop\/([^/@]+)(?:@([^/]*))?\/(.+)\/out\/[^/]+$/;

// [{run, version, annotator, results}], without the outbox at `except`.
export function unsent(except = "") {
  const groups = new Map();
  for (const key of (stored(() => Object.keys(localStorage)) ?? []).sort()) {
    const found = KEY.exec(key);
    if (!found || (except && key.startsWith(except))) continue;
    const [, run, version = "", annotator] = found;
    const name = JSON.stringify([run, version, annotator]);
    const held = parsed(stored(() => localStorage.getItem(key)));
    if (!held) continue;
    if (!groups.has(name)) groups.set(name, { run, version, annotator, results: [] });
    groups.get(name).results.push(held);
  }
  return [...groups.values()];
}

// What stands in an entry: earlier releases kept the result alone.
export function parsed(text) {
  try {
    const value = JSON.parse(text);
    if (!(value instanceof Object)) return null;
    return value.result ? value : { result: value, said: "" };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return null;
  }
}

// A table that `labelloop label submit` takes: the last answer for each sample. Skips and what was taken back have no
// class, and rows without are left out there.
export function csvOf({ run, annotator, results }) {
  const last = new Map(results.map((held) => [held.result.request_id, held]));
  const rows = [...last.values()].map(({ result, said }) => {
    const label = result.label === undefined;
    const other = result.withdrawn ? "taken back" : (result.skip ?? "");
    return [result.request_id.split("/").at(-2), label ? "" : result.label, label ? "" : said, other, run, annotator];
  });
  return [["id", "class", "class_name", "other", "run", "annotator"], ...rows].map(line).join("");
}

function line(cells) {
  return `${cells.map(cell).join()}\r\n`;
}

// As the command guards cells against spreadsheets, which take such texts for formulas.
function cell(value) {
  const text = `${value}`;
  const guarded = /^'*([=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r]\s*\S)/.test(text) ? `'${text}` : text;
  return `"${guarded.replaceAll('"', '""')}"`;
}

export function saveButton(groups) {
  const button = h("button", { type: "button", class: "small" }, "Save as a file");
  button.addEventListener("click", () => groups().forEach(save));
  return button;
}

function save(group) {
  const url = URL.createObjectURL(new Blob([`\ufeff${csvOf(group)}`], { type: "text/csv" }));
  const link = h("a", { href: url, download: `unsent-${group.run}.csv` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

// A line for each in `box`, which is hidden without any. `here` is the run that is open, by name and version.
export function showUnsent(box, except = "", here = null) {
  const groups = unsent(except);
  box.hidden = !groups.length;
  box.replaceChildren(...groups.map((group) => notice(group, here)));
}

function notice(group, here) {
  const { run, version, annotator, results } = group;
  const count = `${some(results.length, "answer")} of ${annotator} in run ${run}`;
  const save = saveButton(() => [group]);
  if (here?.run === run && here.version !== version) {
    return h("p", {}, `${count} in this browser are of an earlier run with this name, and are not sent. `, save);
  }
  const link = h("a", { href: `/runs/${encodeURIComponent(run)}` }, "open the run");
  return h("p", {}, `Not sent yet from this browser: ${count}. Sign in as ${annotator} and `, link, " to send them. ", save);
}
