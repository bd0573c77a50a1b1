"""`redacted`: what may be shown of a text that may hold secrets. Every log line, error and command's output goes by it.

Imports nothing of ours.
"""

import re

_WORD = re.compile(r"[^\s'\"<>]+")
"""A URL ends at the latest with its word. Word by word, a text of any length takes linear time."""


def redacted(text: str) -> str:
    """The text without passwords in URLs and without their queries, where signed URLs have their signature: which of
    the parameters that is, only the server knows.

    >>> redacted("rediss://fleet:hunter2@redis:6379/0 refuses https://host/cat.jpg?X-Goog-Signature=ab12")
    'rediss://fleet:…@redis:6379/0 refuses https://host/cat.jpg?…'
    """
    return _WORD.sub(_shown, text) if "://" in text or "?" in text else text


def _shown(word: re.Match[str]) -> str:
    url = word[0].rstrip(":;,.)")
    head, mark, query = url.partition("?")
    scheme, *rest = head.split("://")
    # A path alone is how libraries quote a URL: "with url: /cat.jpg?sig=…".
    query = "…" if mark and (rest or "=" in query) else query
    return "://".join([scheme, *map(_without_password, rest)]) + mark + query + word[0][len(url) :]


def _without_password(rest: str) -> str:
    """Of what follows `://`. A name without a password may be a token: hidden as well."""
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    name, colon, _ = user.partition(":")
    return (f"{name if colon else ''}{colon}…@{host}" if at else host) + slash + path
