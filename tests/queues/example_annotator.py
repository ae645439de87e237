"""Labels what a run asks for: python example_annotator.py nats://127.0.0.1:4222 RUN NAME [SLOT]"""

import asyncio
import json
import sys
from urllib.request import urlopen

import nats


def label(png: bytes, classes: list[str]) -> str | None:
    """Your part: the class of an image, or None to skip it."""
    return classes[len(png) % len(classes)]


async def main(url: str, run: str, name: str, slot: str = "0") -> None:
    js = (await nats.connect(url, max_reconnect_attempts=-1)).jetstream(timeout=10)
    # Whoever shares a slot shares its requests. With several annotators for a sample, give each a slot of their own.
    asked = await js.pull_subscribe(
        f"labelloop-queue.v1.requests.{run}.*.*.{slot}", durable=f"{run}-{slot}", stream="LABELLOOP_QUEUE"
    )
    while True:
        try:
            [message] = await asked.fetch(1, timeout=5)
            request = json.loads(message.data)
            place = request.get("uri") or f"data:;base64,{request['content']}"  # large samples are sent as links
            opened = await asyncio.to_thread(urlopen, place, timeout=10)
            found = label(opened.read(), request["classes"])
            answer = {"skip": "SKIP_KIND_SKIPPED"} if found is None else {"class_name": found}
            result = {"request_id": request["request_id"], "annotator": name, **answer}
            result["revision"] = request.get("next_revision", 0)  # above 0 where a label was withdrawn
            await js.publish(f"labelloop-queue.v1.results.{run}", json.dumps(result).encode())
            await message.ack()  # behind the result: what is not answered comes again
        except (OSError, nats.errors.Error):
            continue  # nothing to do, or the broker or the oracle is away


asyncio.run(main(*sys.argv[1:]))
