// Labels over NATS: node nats.js nats://127.0.0.1:4222 RUN ANSWERS.json ANNOTATOR [SLOT]
import { broker } from "./broker.js";
import { labeller, pause, say } from "./label.js";

const [address, run, answers, annotator, slot = "0"] = process.argv.slice(2);
const STREAM = "LABELLOOP_QUEUE";
const CONSUMER = `${run}-${slot}`;
const NANOSECONDS = 1_000_000_000;
const PULL_S = 5;

const label = labeller(answers, annotator);

async function work(nats) {
  await nats.call(
    `$JS.API.CONSUMER.DURABLE.CREATE.${STREAM}.${CONSUMER}`,
    JSON.stringify({
      stream_name: STREAM,
      config: {
        durable_name: CONSUMER,
        filter_subject: `labelloop-queue.v1.requests.${run}.*.*.${slot}`,
        ack_policy: "explicit",
        deliver_policy: "all",
        ack_wait: 30 * NANOSECONDS,
      },
    }),
  );
  nats.subscribe(`labelloop-queue.v1.verdicts.${run}`, ({ data }) => {
    const { request_id, verdict, reason, message } = JSON.parse(data);
    say({ told: request_id, verdict, reason, message });
  });
  for (;;) {
    const pull = JSON.stringify({ batch: 1, expires: PULL_S * NANOSECONDS });
    const next = `$JS.API.CONSUMER.MSG.NEXT.${STREAM}.${CONSUMER}`;
    const { data, reply, status } = await nats.request(next, pull, 2_000 * PULL_S);
    if (status) continue; // nothing to do: 404, 408
    const request = JSON.parse(data);
    try {
      const result = await label(request);
      await nats.call(`labelloop-queue.v1.results.${run}`, JSON.stringify(result));
      say(result);
    } catch (error) {
      say({ request_id: request.request_id, problem: error.message });
      continue; // what is not acknowledged comes again
    }
    nats.publish(reply, "+ACK");
  }
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
