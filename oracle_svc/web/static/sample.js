// A sample as something to look at.

import { h } from "./dom.js";

const SMALL_PIXELS = 160; // below, an image is scaled up in whole pixels
const VALUES_MAX = 400;

// The element for a request; made once, as soon as it is on the desk, so that it shows at once.
export function sampleElement(request) {
  if (request.media_type.startsWith("image/") && request.content) return image(request);
  if (request.content) return values(request);
  return elsewhere(request);
}

function image(request) {
  const picture = h("img", { alt: `Sample ${request.sample_id}`, draggable: "false" });
  picture.addEventListener("load", () => {
    const small = Math.max(picture.naturalWidth, picture.naturalHeight) <= SMALL_PIXELS;
    picture.classList.toggle("pixels", small);
  });
  picture.src = `data:${request.media_type};base64,${request.content}`;
  return picture;
}

// An array in NumPy's format, version 1: float32 or uint8.
function values(request) {
  const bytes = Uint8Array.from(atob(request.content), (each) => each.charCodeAt(0));
  const headerEnd = 10 + bytes[8] + 256 * bytes[9];
  const header = new TextDecoder("latin1").decode(bytes.subarray(10, headerEnd));
  const data = bytes.slice(headerEnd).buffer;
  const numbers = header.includes("<f4") ? [...new Float32Array(data)] : [...new Uint8Array(data)];
  const rows = numbers.slice(0, VALUES_MAX).map((value, i) => h("li", {}, h("span", {}, `${i}`), ` ${short(value)}`));
  const more = numbers.length > VALUES_MAX ? h("li", {}, `and ${numbers.length - VALUES_MAX} more`) : null;
  return h("ol", { class: "values", tabindex: "0", "aria-label": `Values of sample ${request.sample_id}` }, ...rows, more);
}

function short(value) {
  return Number.isInteger(value) ? `${value}` : `${Number(value.toPrecision(4))}`;
}

function elsewhere(request) {
  const name = `Sample ${request.sample_id}`;
  const web = /^https?:/.test(request.uri);
  const link = h("a", { href: request.uri, target: "_blank", rel: "noopener noreferrer" }, "Open it in a new window");
  return h("div", { class: "elsewhere" }, h("h2", {}, name), web ? link : h("p", {}, `It lies at ${request.uri}`));
}
