// As much of the NATS protocol as an annotator needs: publish, request and pull, over plain TCP and without headers.
import { randomUUID } from "node:crypto";
import { connect } from "node:net";

const FRAME_BYTES_MAX = 64 * 1024 * 1024;
const CONTROL_BYTES_MAX = 64 * 1024; // of INFO, the longest line

/** Connect to nats://[user:password@]host[:port]. */
export async function broker(address) {
  const { hostname, port, username, password } = new URL(address);
  const socket = connect(Number(port || 4222), hostname);
  const made = new Broker(socket);
  await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  const user = username ? { user: decodeURIComponent(username), pass: decodeURIComponent(password) } : {};
  made.open({ verbose: false, pedantic: false, lang: "node", version: "1", headers: true, no_responders: true, ...user });
  return made;
}

class Broker {
  #socket;
  #inbox = `_INBOX.${randomUUID()}`;
  #taking = new Map(); // by subscription: a message that is pulled keeps the subject that it was published under
  #came = Buffer.alloc(0);
  #requests = 0;
  #failure;

  constructor(socket) {
    this.#socket = socket;
    socket.on("data", (data) => this.#read(data));
    socket.on("close", () => this.#end(new Error("the broker closed the connection")));
    socket.on("error", (error) => this.#end(error));
  }

  open(options) {
    this.#write(`CONNECT ${JSON.stringify(options)}\r\n`);
  }

  close() {
    this.#socket.destroy();
  }

  publish(subject, data, reply = "") {
    const body = Buffer.from(data);
    const line = ["PUB", subject, ...(reply ? [reply] : []), body.length].join(" ");
    this.#write(Buffer.concat([Buffer.from(`${line}\r\n`), body, Buffer.from("\r\n")]));
  }

  /** Publish, and return the first reply: {data, reply, status}. */
  request(subject, data, withinMs = 10_000) {
    if (this.#failure) return Promise.reject(this.#failure);
    const id = `${++this.#requests}`;
    const inbox = `${this.#inbox}.${id}`;
    return new Promise((resolve, reject) => {
      const settle = (how, what) => {
        clearTimeout(timer);
        if (this.#taking.delete(id)) this.#write(`UNSUB ${id}\r\n`);
        how(what);
      };
      const timer = setTimeout(() => settle(reject, new Error(`${subject} is not answered`)), withinMs);
      this.#taking.set(id, { take: (reply) => settle(resolve, reply), fail: (error) => settle(reject, error) });
      this.#write(`SUB ${inbox} ${id}\r\n`);
      this.publish(subject, data, inbox);
    });
  }

  /** Call JetStream, or publish into a stream; throws what it answers as an error. */
  async call(subject, data) {
    const { data: answered, status } = await this.request(subject, data);
    const answer = status ? { error: { code: status, description: "nobody answers" } } : JSON.parse(answered);
    if (answer.error) throw new Error(`${subject}: ${answer.error.description} (${answer.error.code})`);
    return answer;
  }

  #write(data) {
    if (!this.#failure) this.#socket.write(data);
  }

  #end(error) {
    this.#failure ??= error;
    for (const each of [...this.#taking.values()]) each.fail(this.#failure);
    this.#socket.destroy();
  }

  #read(data) {
    this.#came = Buffer.concat([this.#came, data]);
    try {
      while (this.#frame());
    } catch (error) {
      this.#end(error);
    }
  }

  /** Take one frame off what came; false if it is not whole yet. */
  #frame() {
    const end = this.#came.indexOf("\r\n");
    if (end < 0) {
      if (this.#came.length > CONTROL_BYTES_MAX) throw new Error("the broker sends no line");
      return false;
    }
    const [kind, ...parts] = this.#came.toString("latin1", 0, end).split(" ");
    let size = 0;
    if (kind === "MSG" || kind === "HMSG") {
      size = Number(parts.at(-1));
      if (!(size <= FRAME_BYTES_MAX)) throw new Error(`a message of ${parts.at(-1)} bytes`);
      if (this.#came.length < end + 4 + size) return false;
      const headed = kind === "HMSG" ? Number(parts.at(-2)) : 0;
      const body = this.#came.subarray(end + 2, end + 2 + size);
      const status = Number(/^NATS\/1\.0 (\d+)/.exec(body.toString("latin1", 0, headed))?.[1] ?? 0);
      const reply = parts.length > (headed ? 4 : 3) ? parts[2] : "";
      this.#taking.get(parts[1])?.take({ data: body.subarray(headed), reply, status });
      size += 2;
    } else if (kind === "PING") {
      this.#write("PONG\r\n");
    } else if (kind === "-ERR") {
      throw new Error(`the broker says ${parts.join(" ")}`);
    } // INFO, PONG and +OK need no answer
    this.#came = this.#came.subarray(end + 2 + size);
    return true;
  }
}
