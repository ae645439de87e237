// Answers on their way, in the order given. They are kept until the oracle has taken or refused them, beyond a lost
// connection and a closed page; sending one twice does no harm, for its revision names it.

import { Refused, keepsAnswers } from "./api.js";
import { stored } from "./stored.js";
import { parsed } from "./unsent.js";

const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 10_000;

export class Outbox {
  // `heard` has taken(result, reply, tries), refused(result, error), stuck(error) and moving().
  constructor(prefix, send, heard) {
    this.prefix = prefix;
    this.send = send;
    this.heard = heard;
    this.items = kept(prefix);
    this.waitMs = FIRST_WAIT_MS;
    this.busy = false;
  }

  get size() {
    return this.items.length;
  }

  // `said` is the answer in words, for people.
  push(result, said) {
    const item = { key: this.prefix + `${Date.now()}`.padStart(15, "0") + `-${serial()}`, result, said, tries: 0 };
    this.items.push(item);
    keep(item);
    this.flush();
  }

  async flush() {
    if (this.busy) return;
    this.busy = true;
    clearTimeout(this.timer);
    try {
      while (this.items.length && (await this.sendFirst()));
    } finally {
      this.busy = false;
    }
  }

  // Whether to go on.
  async sendFirst() {
    const item = this.items[0];
    item.tries += 1;
    try {
      const reply = await this.send(item.result);
      this.done(item);
      this.heard.taken(item.result, reply, item.tries);
    } catch (error) {
      if (keepsAnswers(error)) {
        this.timer = setTimeout(() => this.flush(), this.waitMs);
        this.waitMs = Math.min(2 * this.waitMs, LONGEST_WAIT_MS);
        this.heard.stuck(error);
        return false;
      }
      if (!(error instanceof Refused)) throw error;
      this.done(item);
      this.heard.refused(item.result, error);
    }
    return true;
  }

  has(id) {
    return this.items.some(({ result }) => result.request_id === id);
  }

  // Say nothing more of a request.
  drop(id) {
    const dropped = this.items.filter(({ result }) => result.request_id === id);
    this.items = this.items.filter((item) => !dropped.includes(item));
    for (const { key } of dropped) forget(key);
  }

  // What another window sent, or the same one before it was closed.
  gone(key) {
    if (!this.busy) this.items = this.items.filter((item) => item.key !== key);
  }

  done(item) {
    this.items = this.items.filter((each) => each !== item);
    this.waitMs = FIRST_WAIT_MS;
    forget(item.key);
    this.heard.moving();
  }
}

// An entry each, so that two windows do not overwrite each other's. Where the browser keeps nothing (a private window,
// a full disk) they live in memory alone.

let count = 0;
function serial() {
  count += 1;
  return `${count}`.padStart(6, "0");
}

function kept(prefix) {
  const keys = stored(() => Object.keys(localStorage)) ?? [];
  return keys
    .filter((key) => key.startsWith(prefix))
    .sort()
    .map((key) => ({ key, ...parsed(localStorage.getItem(key)), tries: 1 }))
    .filter(({ result }) => result);
}

function keep(item) {
  stored(() => localStorage.setItem(item.key, JSON.stringify({ result: item.result, said: item.said })));
}

function forget(key) {
  stored(() => localStorage.removeItem(key));
}
