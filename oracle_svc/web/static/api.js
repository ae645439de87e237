// Requests to the oracle. Away: nothing is known to have happened, try again. Refused: the oracle says that it never
// will as it is. Barred: somebody in front of it answers in its place, and wants people to sign in.

export class Barred extends Error {}

export class Away extends Error {}

export class Refused extends Error {
  constructor(status, reason, message) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

// Whether the same request may be taken later: once there is a connection, or somebody is let in again.
export function passes(error) {
  return error instanceof Away || error instanceof Barred || [401, 403].includes(error.status);
}

// Whether an answer may be taken later: whoever runs labelloop can bring an archived run back.
export function keepsAnswers(error) {
  return passes(error) || error.reason === "RUN_ARCHIVED";
}

const TIMEOUT_MS = 20_000;

export async function post(path, body, { keepalive = false } = {}) {
  return ask(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Labelloop": "1" },
    body: JSON.stringify(body),
    keepalive,
    signal: keepalive ? undefined : AbortSignal.timeout(TIMEOUT_MS),
  });
}

export async function get(path) {
  return ask(path, { signal: AbortSignal.timeout(TIMEOUT_MS) });
}

async function ask(path, options) {
  let response, body;
  try {
    response = await fetch(path, { ...options, redirect: "manual" }); // the oracle sends no data elsewhere
    body = json(await response.text());
  } catch (error) {
    throw new Away("no connection to the oracle", { cause: error });
  }
  const { status } = response;
  if (response.ok && body) return body;
  const ours = typeof body?.reason === "string" && typeof body.message === "string";
  if (response.ok || response.type === "opaqueredirect" || (!ours && [401, 403].includes(status))) {
    throw new Barred("a server in front of the oracle wants you to sign in");
  }
  const message = ours ? body.message : "the oracle could not answer";
  if (!ours || status >= 500 || status === 429) throw new Away(message);
  throw new Refused(status, body.reason, message);
}

// What a JSON object says; null for all else, such as a proxy's page.
function json(text) {
  try {
    const value = JSON.parse(text);
    return value instanceof Object ? value : null;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return null;
  }
}
