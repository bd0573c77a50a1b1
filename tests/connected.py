"""Who is connected to a Redis on this machine, by process. Linux only."""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from redis import Redis

LOOK_S = 0.05


class Connected:
    """`pids`: kind of process → its id. `most`: the most connections of each that were seen at once."""

    def __init__(self, url: str, pids: Mapping[str, int]) -> None:
        self._redis = Redis.from_url(url, single_connection_client=True)
        self._pids = pids
        self.most: Counter[str] = Counter()

    def count(self) -> Counter[str]:
        """Kind of process → connections, without this one."""
        ours = self._redis.client_id()
        others = (str(client["addr"]) for client in self._redis.client_list() if int(client["id"]) != ours)
        ports = {int(address.rpartition(":")[2]) for address in others}
        return Counter({kind: len(ports & _ports_of(pid)) for kind, pid in self._pids.items()})

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look on while the block runs."""
        self.most.clear()
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(done,))
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def _watch(self, done: threading.Event) -> None:
        while not done.wait(LOOK_S):
            self.most |= self.count()


def _ports_of(pid: int) -> set[int]:
    process, sockets = Path(f"/proc/{pid}"), set[str]()
    for link in (process / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            sockets.add(str(link.readlink()))
    rows = (line.split() for line in (process / "net/tcp").read_text().splitlines()[1:])
    return {int(row[1].rpartition(":")[2], 16) for row in rows if f"socket:[{row[9]}]" in sockets}
