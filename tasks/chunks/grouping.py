"""Things in groups that are not too large to send, or to delete, at once. Pure."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def grouped(
    items: Iterable[Item], size_of: Callable[[Item], int], *, max_bytes: int, max_items: float = math.inf
) -> Iterator[list[Item]]:
    """The items in order, in groups within these bounds; one that is larger by itself is a group."""
    group: list[Item] = []
    group_bytes = 0
    for item in items:
        size = size_of(item)
        if group and (len(group) >= max_items or group_bytes + size > max_bytes):
            yield group
            group, group_bytes = [], 0
        group.append(item)
        group_bytes += size
    if group:
        yield group
