// What lies before one annotator: requests that are theirs for now, and what they said of earlier ones.

import { Away, Barred, Refused, get, passes, post } from "./api.js";
import { Claims } from "./claims.js";
import { Outbox } from "./outbox.js";
import { Past } from "./past.js";
import { stored } from "./stored.js";
import { parsed } from "./unsent.js";

const AHEAD = 3; // beside the one that is shown
const AHEAD_MAX = 50; // that the oracle gives at once, those of other windows among them
const FILL_AGAIN_MS = 2_000;

export class Desk {
  // `heard` has changed() and told(text). `trouble` holds the errors of what is being tried again. What lies here is
  // ours for `leaseMs` after it was asked for, by this machine's own clock, which goes on while the machine sleeps.
  // What is kept in the browser is of this very run: another one with the same name, in a new store, has another `version`.
  constructor(run, version, annotator, leaseMs, heard) {
    this.leaseMs = leaseMs;
    this.base = `/api/runs/${run}`;
    this.heard = heard;
    this.store = `labelloop/${run}@${version}/${annotator}/`;
    this.queue = [];
    this.claims = new Claims(`${this.store}claim/`);
    this.past = new Past(`${this.store}past`);
    this.answered = new Set(this.past.entries.map(({ item }) => item.id));
    this.over = false;
    this.refusal = "";
    this.filled = false;
    this.left = false;
    this.trouble = { sending: null, filling: null, listening: null };
    this.outbox = new Outbox(`${this.store}out/`, (result) => post(`${this.base}/answers`, { results: [result] }), {
      taken: (result, reply, tries) => this.taken(result, reply, tries),
      refused: (result, error) => this.refused(result, error),
      stuck: (error) => this.tried("sending", error),
      moving: () => this.tried("sending", null),
    });
    for (const { result } of this.outbox.items) this.note(result);
  }

  get current() {
    return this.queue[0];
  }

  get lost() {
    return Object.values(this.trouble).some((error) => error instanceof Away);
  }

  // Why we are not let in, though the oracle knows our name.
  get shutOut() {
    return Object.values(this.trouble).find((error) => error?.status === 403 || error?.reason === "RUN_ARCHIVED")?.message ?? "";
  }

  get heldElsewhere() {
    return this.claims.others().size;
  }

  get signedOut() {
    return Object.values(this.trouble).some((error) => error?.status === 401);
  }

  get barred() {
    return Object.values(this.trouble).some((error) => error instanceof Barred);
  }

  get short() {
    return this.queue.length <= AHEAD;
  }

  // Ask for what fits on the desk; what is ours already is renewed by it.
  async fill() {
    if (this.left || this.over) return;
    if (this.filling) {
      this.fillAgain = true;
      return;
    }
    this.filling = true;
    clearTimeout(this.timer);
    try {
      const others = this.claims.others();
      const have = [...this.queue.map((item) => item.id), ...others].slice(0, 2 * AHEAD_MAX);
      const until = Date.now() + this.leaseMs;
      const count = Math.min(AHEAD_MAX, Math.max(AHEAD + 1, this.queue.length) + others.size);
      const { requests } = await post(`${this.base}/next`, { count, have });
      this.refusal = "";
      if (!this.over) this.merge(requests, until, new Set(have));
      if (this.short && this.claims.others().size > others.size) this.fillAgain = true; // they asked at the same time
      this.tried("filling", null);
      this.outbox.flush();
    } catch (error) {
      this.notFilled(error);
    } finally {
      this.filling = false;
    }
    this.filled = true;
    this.heard.changed();
    if (this.fillAgain) {
      this.fillAgain = false;
      await this.fill();
    }
  }

  notFilled(error) {
    if (passes(error)) {
      this.timer = setTimeout(() => this.fill(), FILL_AGAIN_MS);
      this.tried("filling", error);
    } else if (error instanceof Refused) {
      this.refusal = error.message;
      this.putAway(this.queue.map(({ id }) => id)); // it is not asked for any more
      this.tried("filling", null);
    } else {
      throw error;
    }
  }

  // The one that is shown stays as long as it is ours, lest it change under somebody's finger; so does what was undone
  // and is not given out anew.
  merge(requests, until, had) {
    const elsewhere = this.claims.others();
    const ours = new Map(requests.filter(({ request_id: id }) => !elsewhere.has(id)).map((request) => [request.request_id, request]));
    for (const item of this.queue.filter(({ id }) => ours.has(id))) {
      item.heldUntil = until;
      item.undone &&= this.outbox.has(item.id);
    }
    const stay = this.queue.filter((item, i) => ours.has(item.id) || item.undone || (i === 0 && held(item)));
    const here = new Set(stay.map((item) => item.id));
    const fresh = [...ours.values()].filter((request) => !here.has(request.request_id) && !this.answered.has(request.request_id));
    const whole = fresh.filter(({ request_id: id }) => !had.has(id)); // with their content
    if (whole.length < fresh.length) this.fillAgain = true; // another window had them when we asked
    const room = Math.max(0, AHEAD + 1 - stay.filter((item) => !item.undone).length);
    const gone = this.queue.filter((item) => !here.has(item.id)).map(({ id }) => id);
    this.queue = [...stay, ...whole.slice(0, room).map((request) => this.item(request, until))];
    this.claims.drop(gone);
    this.claims.take(this.queue.filter(({ heldUntil }) => heldUntil));
    this.watchLeases();
  }

  item(request, heldUntil) {
    const id = request.request_id;
    const last = stored(() => localStorage.getItem(`${this.store}revision/${id}`));
    const known = last === null ? 0 : Number(last) + 1;
    return { id, request, heldUntil, revision: Math.max(known, request.next_revision ?? 0), undone: false, shownAt: 0 };
  }

  // Put away what somebody else may be given by now.
  lapse() {
    this.putAway(this.queue.filter((item) => !held(item)).map(({ id }) => id));
    this.watchLeases();
  }

  putAway(ids) {
    if (!ids.length) return;
    this.queue = this.queue.filter(({ id }) => !ids.includes(id));
    this.claims.drop(ids);
    this.heard.changed();
  }

  // The run has ended: whether a sample was shown that nobody answers any more.
  end() {
    if (this.over) return false;
    this.over = true;
    const shown = Boolean(this.current);
    this.putAway(this.queue.map(({ id }) => id));
    return shown;
  }

  // What another window of ours did, by the browser's store.
  heardElsewhere(key, value) {
    if (key.startsWith(`${this.store}out/`)) {
      if (value === null) this.outbox.gone(key);
      else this.answeredElsewhere(parsed(value)?.result);
    } else if (key.startsWith(this.claims.prefix)) {
      const id = key.slice(this.claims.prefix.length);
      if (this.claims.yieldsTo(value) && this.queue.some((item) => item.id === id && !item.undone)) {
        this.putAway([id]);
        this.fill();
      }
    }
  }

  answeredElsewhere(result) {
    if (!result) return;
    this.note(result);
    if (result.withdrawn || !this.queue.some(({ id }) => id === result.request_id)) return;
    this.putAway([result.request_id]);
    this.fill();
  }

  watchLeases() {
    clearTimeout(this.leaseTimer);
    const ends = this.queue.filter((item) => !item.undone).map((item) => item.heldUntil);
    if (ends.length) this.leaseTimer = setTimeout(() => this.lapse(), Math.max(0, Math.min(...ends) - Date.now()));
  }

  shown() {
    if (this.current && !this.current.shownAt) this.current.shownAt = performance.now();
  }

  // `what` is {label} or {skip}; `said` the same in words.
  answer(what, said) {
    const item = this.queue.shift();
    const seconds = Math.round(performance.now() - item.shownAt) / 1000;
    this.say(item, { ...what, time_spent_s: seconds }, said);
    this.claims.drop([item.id]);
    this.past.push({ item, what });
    return item;
  }

  undo() {
    const entry = this.past.pop();
    if (!entry) return null;
    const { item } = entry;
    item.undone = true;
    item.shownAt = 0;
    this.say(item, { withdrawn: true }, "");
    // A new page must not say this revision again: it would be taken for a repeat.
    stored(() => localStorage.setItem(`${this.store}revision/${item.id}`, `${item.revision}`));
    this.queue.unshift(item);
    this.heard.changed();
    return entry;
  }

  // What is answered is not put on the desk again, though the oracle may not know yet.
  note(result) {
    if (result.withdrawn) this.answered.delete(result.request_id);
    else this.answered.add(result.request_id);
  }

  say(item, answer, said) {
    const result = { request_id: item.id, revision: item.revision, ...answer };
    this.note(result);
    this.outbox.push(result, said);
    item.revision += 1;
    this.heard.changed();
  }

  // At the second try it may be our own that stood already.
  taken(result, reply, tries) {
    if (!reply.recorded && tries === 1) {
      this.heard.told(reply.own ? "You had answered that one already, elsewhere: that answer stands." : "Somebody else had answered that one already.");
      this.letGo(result.request_id);
    }
    this.fill();
  }

  refused(result, error) {
    this.heard.told(result.withdrawn ? `That answer stands: ${error.message}` : error.message);
    this.letGo(result.request_id);
    if (!result.withdrawn) this.answered.delete(result.request_id);
    this.fill();
  }

  // What stands is another's, or not ours to change: nothing more is said of it.
  letGo(id) {
    this.outbox.drop(id);
    this.past.drop(id);
    this.answered.add(id);
    this.putAway([id]);
    this.heard.changed();
  }

  tried(what, error) {
    this.trouble[what] = error;
    this.heard.changed();
  }

  // Why no progress comes: the browser does not say what its stream was refused for.
  async whySilent() {
    try {
      const { name } = await get("/api/session");
      this.tried("listening", name ? null : new Refused(401, "SIGN_IN", "you are signed out"));
    } catch (error) {
      if (!passes(error)) throw error;
      this.tried("listening", error);
    }
  }

  // From the beginning, and after an absence.
  sit() {
    this.left = false;
    this.lapse();
    this.outbox.flush();
    this.fill();
  }

  // Somebody else may have them at once.
  leave() {
    this.left = true;
    const ids = this.queue.map((item) => item.id);
    this.queue = [];
    this.claims.drop(ids);
    if (ids.length) post(`${this.base}/release`, { request_ids: ids }, { keepalive: true }).catch(() => {}); // they expire
  }
}

function held(item) {
  return item.undone || Date.now() < item.heldUntil;
}
