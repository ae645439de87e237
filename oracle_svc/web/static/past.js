// One's own answers of this window, newest last: what can be taken back, also after the page is loaded anew. The samples
// are kept with them, so that what comes back is what was seen.

import { stored } from "./stored.js";

const MOST = 100;
const KEPT = 20;
const KEPT_CHARACTERS = 2_000_000; // browsers keep five million

export class Past {
  constructor(key) {
    this.key = key;
    this.entries = restored(key);
  }

  push(entry) {
    this.entries.push(entry);
    if (this.entries.length > MOST) this.entries.shift();
    this.keep();
  }

  pop() {
    const entry = this.entries.pop();
    this.keep();
    return entry;
  }

  drop(id) {
    this.entries = this.entries.filter(({ item }) => item.id !== id);
    this.keep();
  }

  keep() {
    const told = [];
    let room = KEPT_CHARACTERS;
    for (const { item, what } of this.entries.slice(-KEPT).reverse()) {
      const text = JSON.stringify({ request: item.request, revision: item.revision, what });
      room -= text.length;
      if (room < 0) break;
      told.unshift(text);
    }
    stored(() => sessionStorage.setItem(this.key, `[${told.join()}]`));
  }

  forget() {
    stored(() => sessionStorage.removeItem(this.key));
  }
}

function restored(key) {
  try {
    return JSON.parse(stored(() => sessionStorage.getItem(key)) ?? "[]").map(({ request, revision, what }) => ({
      item: { id: request.request_id, request, revision, heldUntil: 0, undone: false, shownAt: 0 },
      what,
    }));
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof TypeError)) throw error;
    return [];
  }
}
