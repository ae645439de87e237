"""List the subjects of a stream, however many there are."""

from __future__ import annotations

import json

from nats.aio.client import Client

from labelloop.errors import Unready

_NO_STREAM = 10059
_WITHIN_S = 30


async def counted_subjects(client: Client, stream: str, subjects: str) -> dict[str, int]:
    """Return the number of messages of ``stream`` by subject, of those that the wildcard ``subjects`` takes.

    The broker tells 100,000 subjects at a time. Where there is no stream, there is no subject.

    Raises:
        Unready: If the broker does not list them.
    """
    counts: dict[str, int] = {}
    while True:
        question = json.dumps({"subjects_filter": subjects, "offset": len(counts)}).encode()
        reply = await client.request(f"$JS.API.STREAM.INFO.{stream}", question, timeout=_WITHIN_S)
        answer = json.loads(reply.data)
        if problem := answer.get("error"):
            if problem.get("err_code") == _NO_STREAM:
                return counts
            message = f"the broker does not list what stands in {stream}: {problem.get('description')}; try again"
            raise Unready("NO_ARTIFACT_LIST", message, stream=stream)
        told = answer["state"].get("subjects") or {}
        counts |= told
        if not told or len(counts) >= answer.get("total", 0):
            return counts
