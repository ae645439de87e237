// Labels over the webhook: node webhook.js PORT ORACLE_URL ANSWERS.json ANNOTATOR, with the secret in WEBHOOK_SECRET.
import { createHmac, randomUUID, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { labeller, pause, say } from "./label.js";

const [port, oracle, answers, annotator] = process.argv.slice(2);
const key = Buffer.from(process.env.WEBHOOK_SECRET.replace(/^whsec_/, ""), "base64");
const TOLERANCE_S = 300;
const BODY_BYTES_MAX = 64 * 1024 * 1024; // 100 requests, each with a sample
const RESULTS_MAX = 100; // at once; the oracle takes 1,000
const REMEMBERED = 10_000; // ids of messages

const label = labeller(answers, annotator);
const seen = new Set();
const waiting = new Map(); // requests by id and, if it is asked again, revision and attempt

const nowS = () => Math.floor(Date.now() / 1000);
const signature = (id, at, body) => createHmac("sha256", key).update(`${id}.${at}.`).update(body).digest();

function isSigned(headers, body) {
  const [id, at, given] = ["id", "timestamp", "signature"].map((name) => headers[`webhook-${name}`]);
  if (!id || !given || !(Math.abs(nowS() - Number(at)) <= TOLERANCE_S)) return false;
  const right = signature(id, at, body);
  return given.split(" ").some((each) => {
    const [version, encoded = ""] = each.split(",");
    const bytes = Buffer.from(encoded, "base64");
    return version === "v1" && bytes.length === right.length && timingSafeEqual(bytes, right);
  });
}

const placeOf = (each) => `${each.request_id}#${each.next_revision}.${each.attempt}`;

/** Take a message; one that is sent again has the id that it had. */
function take(id, { type, data }) {
  if (seen.has(id)) return;
  seen.add(id);
  if (seen.size > REMEMBERED) seen.delete(seen.values().next().value);
  if (type === "labels.requested") {
    for (const each of data.requests) waiting.set(placeOf(each), each);
  } else if (type === "labels.retracted") {
    for (const each of data.retractions) waiting.delete(placeOf(each));
  } // others are of a later release
}

async function bodyOf(request) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    size += part.length;
    if (size > BODY_BYTES_MAX) return null;
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** Send results, the same message under the same id until it is accepted; return the verdict on each. */
async function submit(results) {
  const body = Buffer.from(JSON.stringify({ type: "label.submitted", data: { results } }));
  const id = `msg_${randomUUID()}`;
  for (let tries = 0; ; tries++) {
    const at = nowS();
    const headers = {
      "content-type": "application/json",
      "webhook-id": id,
      "webhook-timestamp": `${at}`,
      "webhook-signature": `v1,${signature(id, at, body).toString("base64")}`,
    };
    try {
      const signal = AbortSignal.timeout(30_000);
      const response = await fetch(`${oracle}/queue/results`, { method: "POST", body, headers, signal });
      if (response.ok) return (await response.json()).results;
      if (response.status < 500) throw new Refused(`${response.status} ${await response.text()}`);
    } catch (error) {
      if (error instanceof Refused) throw error; // sent again it would be refused again
    } // else it is away
    await pause(Math.min(200 * 2 ** tries, 5_000));
  }
}
class Refused extends Error {}

const server = createServer(async (request, response) => {
  const body = await bodyOf(request).catch(() => null);
  if (body === null) return response.writeHead(413).end();
  if (!isSigned(request.headers, body)) return response.writeHead(401).end();
  take(request.headers["webhook-id"], JSON.parse(body));
  response.writeHead(204).end();
});
server.listen(Number(port), "127.0.0.1", () => say({ port: server.address().port }));

for (;;) {
  const batch = [...waiting].slice(0, RESULTS_MAX);
  const results = [];
  for (const [place, request] of batch) {
    try {
      results.push(await label(request));
      waiting.delete(place);
    } catch (error) {
      say({ request_id: request.request_id, problem: error.message }); // its sample is away: try again
      await pause(1_000);
    }
  }
  const verdicts = results.length ? await submit(results) : [];
  results.forEach((each, i) => say({ ...each, verdict: verdicts[i].verdict }));
  await pause(50);
}
