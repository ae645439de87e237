// Which of one annotator's windows shows which sample. Leases are by name, so that all windows hold the same ones: what
// one window has on its desk, another leaves alone, until the lease ends there.

import { stored } from "./stored.js";

export class Claims {
  constructor(prefix) {
    this.prefix = prefix;
    this.window = `${Date.now().toString(36)}${Math.random().toString(36).slice(2)}`;
  }

  // Ids that other windows show.
  others() {
    const ids = new Set();
    for (const key of stored(() => Object.keys(localStorage)) ?? []) {
      if (!key.startsWith(this.prefix)) continue;
      const [by, until] = (stored(() => localStorage.getItem(key)) ?? "").split(" ");
      if (Number(until) < Date.now()) stored(() => localStorage.removeItem(key));
      else if (by !== this.window) ids.add(key.slice(this.prefix.length));
    }
    return ids;
  }

  take(items) {
    for (const { id, heldUntil } of items) {
      stored(() => localStorage.setItem(this.prefix + id, `${this.window} ${heldUntil}`));
    }
  }

  drop(ids) {
    for (const id of ids) {
      if (this.owner(id) === this.window) stored(() => localStorage.removeItem(this.prefix + id));
    }
  }

  owner(id) {
    return (stored(() => localStorage.getItem(this.prefix + id)) ?? "").split(" ")[0];
  }

  // Whether another window took what this one has: two may have asked at once, and one of them must give way.
  yieldsTo(value) {
    const by = (value ?? "").split(" ")[0];
    return by !== "" && by < this.window;
  }
}
