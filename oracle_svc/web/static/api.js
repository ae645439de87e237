// Requests to the oracle. Away: nothing is known to have happened, try again. Refused: it never will as it is.

export class Away extends Error {}

export class Refused extends Error {
  constructor(status, reason, message) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

const TIMEOUT_MS = 20_000;

export async function post(path, body, { keepalive = false } = {}) {
  return answerOf(() =>
    fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Labelloop": "1" },
      body: JSON.stringify(body),
      keepalive,
      signal: keepalive ? undefined : AbortSignal.timeout(TIMEOUT_MS),
    }),
  );
}

export async function get(path) {
  return answerOf(() => fetch(path, { signal: AbortSignal.timeout(TIMEOUT_MS) }));
}

async function answerOf(ask) {
  let response, body;
  try {
    response = await ask();
    body = await response.json();
  } catch (error) {
    // A proxy's page instead of JSON is as good as no answer.
    throw new Away("no connection to the oracle", { cause: error });
  }
  if (response.ok) return body;
  const message = body.message ?? "the oracle could not answer";
  if (response.status >= 500 || response.status === 429) throw new Away(message);
  throw new Refused(response.status, body.reason ?? "", message);
}
