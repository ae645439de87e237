// A sample as something to look at.

import { h, shortened } from "./dom.js";

const SMALL_PIXELS = 160; // below, an image is scaled up in whole pixels
const VALUES_MAX = 400;
const FOLDED_CHARACTERS = 2_000; // of a text that is longer by as many again or more

// The element for a request; made once, as soon as it is on the desk, so that it shows at once.
export function sampleElement(request) {
  if (!request.content && !here(request.uri)) return elsewhere(request);
  if (request.media_type.startsWith("text/plain")) return text(request);
  if (request.media_type.startsWith("application/json")) return row(request);
  return request.media_type.startsWith("image/") ? image(request) : values(request);
}

// What a person calls it: its own name, or its number where it has none.
export function called(request) {
  return request.sample_name || `Sample ${request.sample_id}`;
}

// Large samples are sent as links to the oracle, which the page gets without the oracle's address.
function here(uri) {
  return uri.startsWith("/");
}

function image(request) {
  const picture = h("img", { alt: called(request), draggable: "false" });
  picture.addEventListener("load", () => {
    const small = Math.max(picture.naturalWidth, picture.naturalHeight) <= SMALL_PIXELS;
    picture.classList.toggle("pixels", small);
  });
  picture.src = request.content ? `data:${request.media_type};base64,${request.content}` : request.uri;
  return picture;
}

// Whatever the text holds is shown as text; each paragraph runs in its own direction.
function text(request) {
  const words = h("div", { class: "text", dir: "auto", tabindex: "0", role: "article", "aria-label": `Text ${called(request)}` });
  if (request.content) unfold(words, decoded(bytesOf(request.content)));
  else fetched(request.uri).then((bytes) => unfold(words, decoded(bytes)), (error) => unfold(words, error.message));
  return words;
}

function unfold(element, whole) {
  const characters = [...whole];
  if (characters.length < 2 * FOLDED_CHARACTERS) {
    element.textContent = whole;
    return;
  }
  element.textContent = `${characters.slice(0, FOLDED_CHARACTERS).join("")}\u2026`;
  const more = h("button", { type: "button", class: "more", dir: "ltr" }, `Show all ${characters.length.toLocaleString("en")} characters`);
  more.addEventListener("click", () => {
    element.textContent = whole;
    element.focus();
  });
  element.append(more);
}

function decoded(bytes) {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (each) => each.charCodeAt(0));
}

// A row of a table: its columns by name. Whatever the cells hold is shown as text.
function row(request) {
  const table = h("table", { class: "row", tabindex: "0", "aria-label": `Row ${called(request)}` });
  const fill = (bytes) => table.replaceChildren(...cells(JSON.parse(decoded(bytes))));
  if (request.content) fill(bytesOf(request.content));
  else fetched(request.uri).then(fill, (error) => table.replaceChildren(h("caption", {}, error.message)));
  return table;
}

function cells(columns) {
  const all = Object.entries(columns);
  const shown = all.slice(0, VALUES_MAX).map(([name, value]) =>
    h("tr", {}, h("th", { scope: "row", dir: "auto" }, name), h("td", { dir: "auto" }, value === null ? h("span", { class: "pale" }, "missing") : `${value}`)),
  );
  const more = all.length - VALUES_MAX;
  return more > 0 ? [...shown, h("tr", {}, h("td", { colspan: 2 }, `and ${more} more columns`))] : shown;
}

function values(request) {
  const list = h("ol", { class: "values", tabindex: "0", "aria-label": `Values of ${called(request)}` });
  if (request.content) list.append(...rows(bytesOf(request.content)));
  else fetched(request.uri).then((bytes) => list.append(...rows(bytes)), (error) => list.append(h("li", {}, error.message)));
  return list;
}

async function fetched(uri) {
  const response = await fetch(uri);
  if (!response.ok) throw new Error(`The sample does not come: ${(await response.json()).message}`);
  return new Uint8Array(await response.arrayBuffer());
}

// Of an array in NumPy's format, version 1: float32 or uint8.
function rows(bytes) {
  const headerEnd = 10 + bytes[8] + 256 * bytes[9];
  const header = new TextDecoder("latin1").decode(bytes.subarray(10, headerEnd));
  const data = bytes.slice(headerEnd).buffer;
  const numbers = header.includes("<f4") ? [...new Float32Array(data)] : [...new Uint8Array(data)];
  const shown = numbers.slice(0, VALUES_MAX).map((value, i) => h("li", {}, h("span", {}, `${i}`), ` ${short(value)}`));
  const more = numbers.length - VALUES_MAX;
  return more > 0 ? [...shown, h("li", {}, `and ${more} more`)] : shown;
}

function short(value) {
  return Number.isInteger(value) ? `${value}` : `${Number(value.toPrecision(4))}`;
}

function elsewhere(request) {
  const name = h("bdi", { title: called(request) }, shortened(called(request)));
  const web = /^https?:/.test(request.uri);
  const link = h("a", { href: request.uri, target: "_blank", rel: "noopener noreferrer" }, "Open it in a new window");
  return h("div", { class: "elsewhere" }, h("h2", {}, name), web ? link : h("p", {}, `It lies at ${request.uri}`));
}
