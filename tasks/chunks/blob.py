"""Content beside the task: raw bytes of all requests of a chunk, in a key of their own (`Keys.blob`).

Only for senders that keep the content until they have the result, and can send it again: a bridge, `infer_many`,
`infer_async`. A request then says where in the blob its content lies, `blob: [begin, length]` instead of `data`. That
is between senders and workers; in a request from outside the field is unknown.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from celery import Task
from redis import Redis

from lowtide.tasks.chunks.grouping import grouped
from lowtide.tasks.redis.keys import BLOB_S, Keys
from lowtide.tasks.redis.scripts import lua
from lowtide.tasks.wire.inline import decoded, encoded

PLACE = "blob"
CONTENT_LOST = "CONTENT_LOST"
"""The state of a task whose content a worker found gone: to Celery, one that is not finished. Its sender has it, and
sends it again: nobody else gets to know.
"""
NEWS = f'{{"status": "{CONTENT_LOST}", "result": null}}'
"""What is stored then in the place of the result."""
DROP_NEWS = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"
"""A script. KEYS  Celery's result key   ARGV  the news"""

DELETE_AT_ONCE_BYTES = 8 * 1024 * 1024
"""Redis gives the memory back before it serves the next: 64 times 4 MiB in 10 to 15 ms, and in up to 190 on a
busy machine. UNLINK is no better: it leaves only what has many elements to a thread, and a string is one, however long.
"""
DELETE_AT_ONCE = 8
"""Where nobody knows how large they are: 4 MiB each at most, as a rule."""

Request = Mapping[str, Any]


def apart(requests: Iterable[Request]) -> tuple[list[Request], bytes | None]:
    """The requests as they travel, and their content; None when there is none."""
    travelling: list[Request] = []
    contents: list[bytes] = []
    size = 0
    for request in requests:
        if (data := request.get("data")) is None:
            travelling.append(request)
            continue
        content = data if isinstance(data, bytes) else decoded(data)
        travelling.append({**_without(request, "data"), PLACE: [size, len(content)]})
        contents.append(content)
        size += len(content)
    return travelling, b"".join(contents) if contents else None


def within(requests: Iterable[Request]) -> list[Request]:
    """The requests with their content as base64, for a sender that doesn't keep it, or a broker that can't."""
    return [
        {**request, "data": encoded(data)} if isinstance(data := request.get("data"), bytes) else request
        for request in requests
    ]


def together(requests: Sequence[Request], fetch: Callable[[], bytes | None]) -> list[Request | None]:
    """The requests that arrived, with their content; None for one whose content is gone. `fetch` brings the blob, and
    is called once, if one needs it.
    """
    places = [_place_of(request) for request in requests]
    blob = fetch() if any(places) else None
    return [
        _with_content(request, place, blob) if place else request
        for request, place in zip(requests, places, strict=True)
    ]


def lies_beside(requests: Iterable[Request]) -> bool:
    """True when content of one of them, which arrived, is in the blob."""
    return any(map(_place_of, requests))


class Blobs:
    """Of one fleet. Safe from any thread. Every method raises RedisError."""

    def __init__(self, redis: Redis, keys: Keys, *, bridge: str | None = None) -> None:
        """`bridge`: the one that sends the content, of which Redis has a list (`Keys.blobs`)."""
        self._redis = redis
        self._keys = keys
        self._list = keys.blobs(bridge) if bridge else None

    @classmethod
    def of(cls, task: Task) -> "Blobs":
        """Of the fleet whose Redis `task` stores its results in."""
        return cls(task.backend.client, Keys(task.app.conf.broker_transport_options["global_keyprefix"]))

    def get(self, task_id: str) -> bytes | None:
        """The content beside the task; None when it is gone."""
        return cast(bytes | None, self._redis.get(self._keys.blob(task_id)))

    def has(self, task_id: str) -> bool:
        """True while the content beside the task is there."""
        return bool(self._redis.exists(self._keys.blob(task_id)))

    def tell_lost(self, task_id: str) -> None:
        """Tell the sender that the content is gone, unless the task has a result, or its content again."""
        store = self._redis.register_script(lua(__package__, "results"))
        store(keys=[self._keys.result(task_id), self._keys.blob(task_id)], args=[NEWS, BLOB_S])

    def renew(self, task_ids: Iterable[str]) -> None:
        """Keep what is there for another ten minutes. O(tasks)."""
        with self._redis.pipeline(transaction=False) as pipe:
            for key in (*map(self._keys.blob, task_ids), *([self._list] if self._list else [])):
                pipe.expire(key, BLOB_S)
            pipe.execute()

    def forget(self, task_ids: Sequence[str]) -> None:
        """Delete the content beside these tasks, and their results, which were taken."""
        for start in range(0, len(task_ids), DELETE_AT_ONCE):
            tasks = task_ids[start : start + DELETE_AT_ONCE]
            self._delete(tasks, *map(self._keys.result, tasks), listed=self._list)

    def leave_none(self, bridge: str) -> int:
        """Delete all content of a bridge that has no use for it any more, as far as others know; returns beside how
        many tasks. In steps, between which Redis serves others.
        """
        listed = self._keys.blobs(bridge)
        found: Any = self._redis.hgetall(listed)
        sizes = {task.decode(errors="replace"): int(size) for task, size in found.items()}
        for tasks in grouped(sizes, sizes.__getitem__, max_bytes=DELETE_AT_ONCE_BYTES):
            self._delete(tasks, listed=listed)
        return len(sizes)

    def _delete(self, task_ids: Sequence[str], *others: str, listed: str | None) -> None:
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.delete(*map(self._keys.blob, task_ids), *others)
            if listed:
                pipe.hdel(listed, *task_ids)
            pipe.execute()


def _place_of(request: object) -> tuple[int, int] | None:
    """Whatever it is: a message may be anybody's. None then, and the request is refused for a field that is unknown."""
    place = request.get(PLACE) if isinstance(request, Mapping) and "data" not in request else None
    if not isinstance(place, list) or len(place) != 2 or not all(type(number) is int for number in place):
        return None
    begin, length = place
    return (begin, length) if begin >= 0 and length >= 0 else None


def _with_content(request: Request, place: tuple[int, int], blob: bytes | None) -> Request | None:
    begin, length = place
    if blob is None or len(blob) < begin + length:
        return None
    return {**_without(request, PLACE), "data": blob[begin : begin + length]}


def _without(request: Request, name: str) -> Request:
    return {field: value for field, value in request.items() if field != name}
