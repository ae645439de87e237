// The page of a run: what lies on the desk, keys and buttons, and beside them how the model is doing.

import { get, passes, post } from "./api.js";
import { Desk } from "./desk.js";
import { h, localTime, percent, shortened, some, whole } from "./dom.js";
import { keysInWords, keysOf } from "./keys.js";
import { Live } from "./live.js";
import { stored } from "./stored.js";
import { showPanel } from "./panel.js";
import { called, sampleElement } from "./sample.js";
import { saveButton, showUnsent, unsent } from "./unsent.js";

const SHOWN_BESIDE = 3;
const FEW_CLASSES = 10;
const TOLD_MS = 6_000;
const UNSENT_AFTER_MS = 1_500;
const ASK_AGAIN_MS = 5_000; // leases that others let lapse ring no bell
const SKIPPED = "SKIP_KIND_SKIPPED";
const REJECTED = "SKIP_KIND_REJECTED";

const { run, version, annotator, tool, leaseS } = document.body.dataset;
const LEASE_MS = 1000 * Number(leaseS);
const RENEW_MS = 0.4 * LEASE_MS;
const IDLE_MS = 2 * LEASE_MS; // then others may have what lies here
const at = (id) => document.getElementById(id);

let classes = JSON.parse(document.body.dataset.classes);
let now = null;
let curves = null;
let silent = false; // no progress comes
let activeAt = Date.now();
let opinionShown = stored(() => localStorage.getItem("labelloop/opinion")) !== "hidden";
const elements = new WeakMap(); // of what lies on the desk, by item

const desk = new Desk(run, version, annotator, LEASE_MS, {
  changed: () => render(),
  told: (text) => tell(text),
});

const live = new Live(`/api/runs/${run}/events`, {
  now: (data) => {
    now = data;
    if (now.ended) runEnded();
    renderProgress();
    if (!tool && !away() && desk.filled && desk.short && now.open > desk.queue.length) desk.fill();
    render();
  },
  curves: (data) => {
    const roundEnded = curves && data.change && data.change.round !== curves.change?.round;
    curves = data;
    if (roundEnded) announce(`Round ${data.change.round + 1} is done: ${data.change.after.text}.`);
    renderProgress();
  },
  up: () => {
    desk.tried("listening", null);
    setSilent(false);
  },
  down: () => setSilent(true),
  refused: () => {
    desk.whySilent();
    if (desk.current) desk.fill(); // which tells whether the run is still there
  },
});

// Answers

function answer(what, said) {
  if (!desk.current) return;
  desk.answer(what, wordFor(what));
  announce(`${said}. ${now ? `${whole(now.labels)} of ${whole(now.budget)} labels stand.` : ""}`);
}

function label(index) {
  if (!desk.current || index >= classes.length) return;
  flash(at("classes").children[index]);
  answer({ label: index }, `Labelled ${classes[index]}`);
}

function labelBy(key) {
  const index = keysOf(classes).indexOf(key);
  if (index >= 0) label(index);
}

function skip() {
  flash(at("skip"));
  answer({ skip: SKIPPED }, "Skipped");
}

function reject() {
  flash(at("reject"));
  answer({ skip: REJECTED }, "Rejected");
}

function undo() {
  if (now?.ended) return; // nothing could be said in its place
  const entry = desk.undo();
  if (!entry) return;
  flash(at("undo"));
  announce(`Taken back: ${said(entry.what)}. ${called(entry.item.request)} is here again.`);
}

// What a file of unsent answers says.
function wordFor(what) {
  return what.skip ? "" : classes[what.label];
}

function said(what) {
  if (what.skip) return what.skip === SKIPPED ? "skipped" : "rejected";
  return classes[what.label] ?? `${what.label}`;
}

function mark(what) {
  if (what.skip) return what.skip === SKIPPED ? "skip" : "reject";
  return said(what);
}

function toggleOpinion() {
  opinionShown = !opinionShown;
  stored(() => localStorage.setItem("labelloop/opinion", opinionShown ? "shown" : "hidden"));
  render();
}

// Keys

// Guidelines are open at first; each browser keeps for each run whether they are.

const guidelines = at("guidelines");
if (guidelines) {
  const kept = `labelloop/guidelines/${run}`;
  guidelines.open = stored(() => localStorage.getItem(kept)) !== "closed";
  guidelines.addEventListener("toggle", () => stored(() => localStorage.setItem(kept, guidelines.open ? "open" : "closed")));
}

function toggleGuidelines() {
  if (guidelines) guidelines.open = !guidelines.open;
}

const KEYS = { s: skip, x: reject, u: undo, z: undo, Backspace: undo, p: toggleOpinion, g: toggleGuidelines };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target.closest("input, textarea, select")) return;
  if (/^[0-9]$/.test(event.key)) labelBy(event.key);
  else if (KEYS[event.key]) KEYS[event.key]();
  else if (event.key === "/" && !at("filter-box").hidden) at("filter").focus();
  else return;
  event.preventDefault();
});

at("undo").addEventListener("click", undo);
at("skip").addEventListener("click", skip);
at("reject").addEventListener("click", reject);
at("opinion-toggle").addEventListener("click", toggleOpinion);

at("sign-out")?.addEventListener("click", async () => {
  desk.leave();
  desk.past.forget();
  await post("/logout", {});
  location.assign("/login");
});

// Classes

function renderClasses() {
  const box = at("classes");
  const longest = Math.max(...classes.map((name) => name.length));
  const keys = keysOf(classes);
  box.dataset.kind = classes.length > FEW_CLASSES ? "many" : longest <= 3 ? "short" : "long";
  box.replaceChildren(...classes.map((name, index) => classButton(name, index, keys[index])));
  at("filter-box").hidden = classes.length <= FEW_CLASSES;
  at("keys-hint").textContent = keysInWords(classes);
  at("keys-hint").hidden = !classes.length;
}

function classButton(name, index, key) {
  const same = name === key; // once will do
  const button = h(
    "button",
    { type: "button", "aria-keyshortcuts": key, class: same ? "same" : null },
    key === null || same ? null : h("kbd", { "aria-hidden": "true" }, key),
    h("span", { class: "name" }, name),
    h("span", { class: "so-far", "aria-hidden": "true" }),
  );
  button.addEventListener("click", () => label(index));
  return button;
}

function filterClasses() {
  const wanted = at("filter").value.trim().toLowerCase();
  for (const [index, button] of [...at("classes").children].entries()) {
    button.hidden = !classes[index].toLowerCase().includes(wanted);
  }
}

at("filter").addEventListener("input", filterClasses);
at("filter").addEventListener("keydown", (event) => {
  const first = [...at("classes").children].findIndex((button) => !button.hidden);
  if (event.key === "Enter" && at("filter").value.trim() && first >= 0) label(first);
  else if (event.key !== "Escape") return;
  event.preventDefault();
  at("filter").value = "";
  filterClasses();
  if (event.key === "Escape") at("filter").blur();
});

// What is seen

function render() {
  const item = desk.current;
  if (item && item.request.classes.length !== classes.length) {
    classes = item.request.classes;
    renderClasses();
  }
  renderFrame(item);
  renderStrip(at("done"), desk.past.entries.slice(-SHOWN_BESIDE), ({ item: past, what }) => badge(past, mark(what)));
  renderStrip(at("next"), desk.queue.slice(1, 1 + SHOWN_BESIDE), (next) => badge(next, null));
  renderOpinion(item);
  for (const button of [...at("classes").children, at("skip"), at("reject")]) button.disabled = !item;
  at("undo").disabled = !desk.past.entries.length || Boolean(now?.ended);
  renderBanner();
}

function elementOf(item) {
  if (!elements.has(item)) elements.set(item, sampleElement(item.request));
  return elements.get(item);
}

function renderFrame(item) {
  const frame = at("frame");
  const wanted = item ? elementOf(item) : emptiness();
  if (frame.firstElementChild !== wanted) frame.replaceChildren(wanted);
  frame.dataset.sample = item ? item.request.sample_id : "";
  frame.dataset.kind = item ? "sample" : "empty";
  renderName(item?.request.sample_name ?? "");
  desk.shown();
}

function renderName(name) {
  const caption = at("sample-name");
  caption.hidden = !name;
  caption.title = name;
  caption.textContent = shortened(name);
}

const shownStrips = new WeakMap();

function renderStrip(list, items, make) {
  const key = items.map((each) => (each.item ?? each).id + (each.what ? said(each.what) : "")).join();
  if (shownStrips.get(list) === key) return;
  shownStrips.set(list, key);
  list.replaceChildren(...items.map(make));
}

function badge(item, text) {
  const picture = elementOf(item);
  const small = picture instanceof HTMLImageElement ? picture.cloneNode() : h("span", { class: "no-picture" }, shortened(item.request.sample_name || `${item.request.sample_id}`, 20));
  return h("li", {}, small, text === null ? null : h("b", {}, text));
}

function renderOpinion(item) {
  const opinion = item?.request.prediction;
  at("opinion").classList.toggle("none", !opinion);
  at("opinion-toggle").hidden = !opinion;
  at("opinion-word").textContent = opinionShown ? "Hide" : "Show";
  const text = at("opinion-text");
  if (!opinion || !opinionShown) {
    text.replaceChildren();
    return;
  }
  const name = classes[opinion.label] ?? `class ${opinion.label}`;
  const bar = h("progress", { max: 1, value: opinion.confidence, "aria-hidden": "true" });
  const sure = [percent(opinion.confidence, 0), h("span", { class: "roomy" }, " sure")];
  text.replaceChildren(h("span", { class: "roomy" }, "The "), "model says ", h("b", {}, name), bar, ...sure);
}

const EMPTY = at("empty");

function emptiness() {
  const [title, text, busy] = whyEmpty();
  const children = [h("h2", {}, title), h("p", {}, text)];
  if (now?.ended || desk.refusal) children.push(wayOn());
  if (busy) children.unshift(h("p", { class: "spinner", "aria-hidden": "true" }));
  EMPTY.replaceChildren(...children);
  return EMPTY;
}

function whyEmpty() {
  const heldUp = whatHoldsUp();
  if (tool) return [`Labelled in ${tool}`, heldUp || "This run's samples are put into that tool. Here you can watch.", false];
  if (now?.ended) return over();
  if (!now || !desk.filled) return ["Fetching samples", "", true];
  if (desk.outbox.size) return ["Sending your answers", "", true];
  if (heldUp && !now.open) return ["The run is held up", heldUp, true];
  if (now.phase === "training") return ["The model is learning", `It has ${some(now.labels, "label")} now, and will ask for the next.`, true];
  if (now.phase === "starting") return ["The run is starting", now.doing ? `${sentence(now.doing)}. The first samples come after that.` : "The first samples come in a moment.", true];
  if (desk.refusal) return ["Nothing to label", desk.refusal, false];
  if (desk.heldElsewhere) return ["Another window of yours has the rest", `Label there, or close it: its samples come here within ${Math.ceil(LEASE_MS / 60_000)} minutes.`, true];
  if (away()) return ["Are you still there?", "What lay here went back, so that others may have it. Press a key or tap to go on.", false];
  return ["Others hold the rest of this round", `${some(now.open, "sample")} wait for them. What they let go comes here.`, true];
}

// What holds the run up, in a sentence; empty where nothing does.
function whatHoldsUp() {
  return (now?.held_up ?? [])
    .map(({ service, tool: away, problem, since }) => {
      return `Since ${localTime(since)}, ${away ? `${away} is away` : `the ${service}`}: ${problem}.`;
    })
    .join(" ");
}

function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

// Once; the run that asks for labels next is offered.
let next = null;

async function runEnded() {
  if (desk.over) return;
  if (desk.end()) tell("The run has ended: the sample that was shown needs no answer any more.");
  try {
    next = await get(`/api/next-run?but=${encodeURIComponent(run)}`);
  } catch (error) {
    if (!passes(error)) throw error;
  }
  render();
}

function wayOn() {
  if (!next?.run_id) return h("a", { class: "way", href: "/" }, "All runs");
  return h("a", { class: "way", href: `/runs/${encodeURIComponent(next.run_id)}` }, `Label the next run: ${next.run_id}`);
}

function over() {
  const { kind, why } = now.ended;
  const best = now.accuracy ? `At the end, with ${some(now.labels, "label")}: ${now.accuracy.text}.` : `${some(now.labels, "label")}.`;
  if (kind === "run_finished") return ["All done, thank you", best, false];
  return [kind === "run_failed" ? "The run failed" : "The run was cancelled", [why, best].filter(Boolean).join(". "), false];
}

function renderProgress() {
  if (now) {
    const text = [h("b", {}, whole(now.labels)), ` of ${whole(now.budget)} labels`];
    at("progress-text").replaceChildren(...text);
    at("progress").max = Math.max(1, now.budget);
    at("progress").value = now.labels;
  }
  if (now && curves) showPanel(now, curves, classes, at);
}

const LAMPS = { lost: "not connected", live: "live", wait: "connecting", over: "the run is over" };

function renderBanner() {
  const banner = at("banner");
  const [trouble, way] = whatIsWrong();
  const kept = desk.outbox.size ? ` ${some(desk.outbox.size, "answer")} kept here until then.` : "";
  const lamp = trouble ? "lost" : now?.ended ? "over" : now ? "live" : "wait";
  at("link").dataset.state = lamp;
  at("link").setAttribute("aria-label", LAMPS[lamp]);
  at("link").title = LAMPS[lamp];
  const text = trouble && `${trouble}${kept} `;
  renderUnsent();
  if (banner.dataset.text === text) return;
  banner.dataset.text = text;
  const save = kept ? [saveButton(ownUnsent)] : [];
  banner.replaceChildren(text, ...(way ? [h("a", { href: way }, "Sign in again")] : []), ...save);
  banner.hidden = !text;
}

function ownUnsent() {
  return unsent().filter((group) => group.run === run && group.version === version && group.annotator === annotator);
}

// A moment later than the answer: most are sent at once.
let unsentTimer = null;

function renderUnsent() {
  const count = desk.outbox.size;
  if (count && at("unsent").hidden) {
    unsentTimer ??= setTimeout(showCount, UNSENT_AFTER_MS);
    return;
  }
  showCount();
}

function showCount() {
  clearTimeout(unsentTimer);
  unsentTimer = null;
  at("unsent").hidden = !desk.outbox.size;
  at("unsent").textContent = `${whole(desk.outbox.size)} unsent`;
}

// In words, and where to go to mend it; of a proxy's own sign-in the browser learns by loading this page anew.
function whatIsWrong() {
  if (now?.ended && !desk.outbox.size) return ["", null]; // there is nothing to wait for
  if (desk.barred) return ["A server in front of the oracle wants you to sign in.", location.pathname];
  if (desk.shutOut) return [`${desk.shutOut}${/[.!?]$/.test(desk.shutOut) ? "" : "."}`, at("sign-out") ? `/login?next=${location.pathname}` : null];
  if (desk.signedOut) return ["You are signed out.", at("sign-out") ? `/login?next=${location.pathname}` : location.pathname];
  if (desk.lost || silent) return ["No connection to the oracle; trying again.", null];
  return ["", null];
}

function setSilent(is) {
  if (silent === is) return;
  silent = is;
  render();
}

let toldTimer;
function tell(text) {
  at("toast").textContent = text;
  at("toast").hidden = false;
  clearTimeout(toldTimer);
  toldTimer = setTimeout(() => (at("toast").hidden = true), TOLD_MS);
}

function announce(text) {
  at("announcer").textContent = text;
}

function flash(button) {
  button.classList.remove("hit");
  void button.offsetWidth; // so that the animation starts anew
  button.classList.add("hit");
}

// Coming and going

function resume() {
  live.open();
  if (!tool) desk.sit();
}

window.addEventListener("storage", ({ key, newValue }) => {
  if (key) desk.heardElsewhere(key, newValue);
});
window.addEventListener("online", resume);
window.addEventListener("offline", () => setSilent(true));
window.addEventListener("pagehide", () => {
  live.close();
  desk.leave();
});
window.addEventListener("pageshow", (event) => {
  if (event.persisted) comeBack();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) comeBack();
});

// Before what a key or a tap does: what is not ours any more must not be answered.
for (const kind of ["keydown", "pointerdown"]) {
  document.addEventListener(kind, () => (away() ? comeBack() : (activeAt = Date.now())), { capture: true });
}

function away() {
  return document.hidden || Date.now() - activeAt > IDLE_MS;
}

function comeBack() {
  activeAt = Date.now();
  resume();
}

setInterval(() => {
  if (!away() && desk.current) desk.fill();
}, RENEW_MS);
setInterval(() => {
  if (!away() && !tool && !desk.current && now?.phase === "labelling") desk.fill();
}, ASK_AGAIN_MS);

if (classes.length) renderClasses();
render();
resume();
showUnsent(at("unsent-elsewhere"), desk.outbox.prefix, { run, version });
