// Labels over NATS: node nats.js nats://127.0.0.1:4222 RUN ANSWERS.json ANNOTATOR [SLOT]
import { broker } from "./broker.js";
import { labeller, pause, say } from "./label.js";

const [address, run, answers, annotator, slot = "0"] = process.argv.slice(2);
const STREAM = "LABELLOOP_QUEUE";
const CONSUMER = `${run}-${slot}`;
const NANOSECONDS = 1_000_000_000;
const PULL_S = 5;

const label = labeller(answers, annotator);

/** Read `subject` with a durable consumer, and acknowledge what `handle` returns true for: the rest comes again. */
async function pulled(nats, consumer, subject, handle) {
  const config = {
    durable_name: consumer,
    filter_subject: subject,
    ack_policy: "explicit",
    deliver_policy: "all",
    ack_wait: 30 * NANOSECONDS,
  };
  const created = `$JS.API.CONSUMER.DURABLE.CREATE.${STREAM}.${consumer}`;
  await nats.call(created, JSON.stringify({ stream_name: STREAM, config }));
  const pull = JSON.stringify({ batch: 1, expires: PULL_S * NANOSECONDS });
  for (;;) {
    const next = await nats.request(`$JS.API.CONSUMER.MSG.NEXT.${STREAM}.${consumer}`, pull, 2_000 * PULL_S);
    if (next.status) continue; // nothing to do: 404, 408
    if (await handle(JSON.parse(next.data))) nats.publish(next.reply, "+ACK");
  }
}

async function answer(nats, request) {
  let result;
  try {
    result = await label(request);
  } catch (error) {
    say({ request_id: request.request_id, problem: error.message });
    return false;
  }
  await nats.call(`labelloop-queue.v1.results.${run}`, JSON.stringify(result));
  say(result);
  return true;
}

function tell({ request_id, verdict, reason, message }) {
  say({ told: request_id, verdict, reason, message });
  return true;
}

function work(nats) {
  const requests = `labelloop-queue.v1.requests.${run}.*.*.${slot}`;
  return Promise.all([
    pulled(nats, CONSUMER, requests, (request) => answer(nats, request)),
    pulled(nats, `${CONSUMER}-verdicts`, `labelloop-queue.v1.verdicts.${run}`, tell),
  ]);
}

for (;;) {
  let nats;
  try {
    nats = await broker(address);
    await work(nats);
  } catch (error) {
    say({ problem: error.message }); // the broker is away, or the oracle has not made the stream yet
  }
  nats?.close();
  await pause(300);
}
