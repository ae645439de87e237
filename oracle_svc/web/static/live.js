// A run's progress as it comes. The browser asks again by itself after a lost connection, not after a refusal, and it
// does not notice a line that has gone silent: the server's beat tells.

const SILENT_MS = 40_000; // beats come every 15 s
const AGAIN_MS = 2_000;

export class Live {
  // `heard` has now(data), curves(data), up(), down() and refused().
  constructor(url, heard) {
    this.url = url;
    this.heard = heard;
  }

  open() {
    this.close();
    this.source = new EventSource(this.url);
    this.source.addEventListener("open", () => this.alive());
    for (const kind of ["now", "curves", "beat"]) {
      this.source.addEventListener(kind, (event) => this.take(kind, JSON.parse(event.data)));
    }
    this.source.addEventListener("error", () => this.failed());
    this.watch();
  }

  close() {
    this.source?.close();
    clearTimeout(this.timer);
  }

  take(kind, data) {
    this.alive();
    if (kind === "now") this.heard.now(data);
    if (kind === "curves") this.heard.curves(data);
  }

  alive() {
    this.heard.up();
    this.watch();
  }

  failed() {
    this.heard.down();
    if (this.source.readyState === EventSource.CLOSED) {
      this.heard.refused();
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.open(), AGAIN_MS);
    }
  }

  watch() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.heard.down();
      this.open();
    }, SILENT_MS);
  }
}
