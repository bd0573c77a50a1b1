"""Tokens: what wakes a worker that waits. They have no content, so that no payload travels to whoever only waits.

They lie in `Keys.wake(model)`, which every idle worker of the model waits for. Who pushes tasks pushes as many tokens
behind them; a take that leaves tasks behind passes one on, and one that finds none removes them. A token that is lost
costs a second: that often an idle worker looks for itself.
"""

import re
from typing import Any

from lowtide.tasks.redis.scripts import lua

_COMMENT = re.compile(r"^--.*\n", re.MULTILINE)


def tokens_lua() -> str:
    """What pushes tokens in Lua: `wake(key, count)`."""
    return _COMMENT.sub("", lua(__package__, "tokens"))


_PUSH = tokens_lua() + "wake(KEYS[1], tonumber(ARGV[1]))"


def push_tokens(pipe: Any, key: str, count: int = 1) -> None:
    """Add the command to a pipeline, after the one that pushes `count` tasks: no round trip more. `key`:
    `Keys.wake(model)`. Not `EVALSHA`: Redis may not know the script, and a pipeline can't be told so in time.
    """
    pipe.eval(_PUSH, 1, key, count)
