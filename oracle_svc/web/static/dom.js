// Elements without a template: h("p", { class: "pale" }, "text", child).

const SVG = "http://www.w3.org/2000/svg";

export function h(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function s(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

export function percent(share, digits = 1) {
  return `${(100 * share).toFixed(digits)} %`;
}

export function whole(count) {
  return count.toLocaleString("en");
}

// A time in seconds since 1970, in the zone of this browser with its name: "30 Nov 2026, 14:05 CET".
export function localTime(seconds) {
  const parts = { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short" };
  return new Date(1_000 * seconds).toLocaleString("en-GB", parts);
}

export function some(count, noun) {
  return `${whole(count)} ${noun}${count === 1 ? "" : "s"}`;
}

// A long name without its middle: its end tells it from its neighbours.
export function shortened(name, most = 60) {
  const letters = [...name];
  if (letters.length <= most) return name;
  const end = Math.floor((most - 1) / 2);
  return `${letters.slice(0, most - 1 - end).join("")}…${letters.slice(-end).join("")}`;
}
