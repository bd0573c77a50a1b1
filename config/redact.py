"""`redacted`: what may be shown of a text that may hold secrets. Every log line, error and command's output goes by it.

Imports nothing of ours.
"""

import re

_URL_LIKE = re.compile("://|[?#&]")
_USER = re.compile(r"://([^\s\"<>/?#]*)@")
_WORD = re.compile(r"[^\s'\"<>?]*\?[^\s\"<>]*|[^\s'\"<>?]+")
"""A URL ends at the latest with its word; a query may have apostrophes in it, which JavaScript does not encode. Word by
word, a text of any length takes linear time.
"""
_QUERY = re.compile(r"\?.+|[#&][^#&=]*=.+")
_PAIRS = re.compile(r"[?#&][^?#&=]*=.+")
"""A path alone is how libraries quote a URL: "with url: /cat.jpg?sig=…". What begins with & is the rest of a query that
has a blank or a quotation mark in it.
"""


def redacted(text: str) -> str:
    """The text without passwords in URLs and without their queries, where signed URLs have their signature: which of
    the parameters that is, only the server knows.

    >>> redacted("rediss://fleet:hunter2@redis:6379/0 refuses https://host/cat.jpg?X-Goog-Signature=ab12")
    'rediss://fleet:…@redis:6379/0 refuses https://host/cat.jpg?…'
    """
    return _WORD.sub(_shown, _USER.sub(_without_password, text)) if _URL_LIKE.search(text) else text


def _without_password(user: re.Match[str]) -> str:
    """A name without a password may be a token: hidden as well."""
    name, colon, _ = user[1].partition(":")
    return f"://{name if colon else ''}{colon}…@"


def _shown(word: re.Match[str]) -> str:
    url = word[0].rstrip(":;,.)]}'")
    query = (_QUERY if "://" in url else _PAIRS).search(url)
    return f"{url[: query.start() + 1]}…{word[0][len(url) :]}" if query else word[0]
