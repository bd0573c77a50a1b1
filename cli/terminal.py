"""Text from outside, as a terminal may show it. Names, errors and ids from messages go by it; `--json` escapes by
itself.
"""


def shown(text: str) -> str:
    r"""The text on one line, with `\x1b` for what a terminal would obey, turn around or not be able to show."""
    return text if text.isprintable() else "".join(map(_shown, text))


def shown_lines(text: str) -> str:
    """Likewise, of a text that has several lines."""
    return "\n".join(map(shown, text.expandtabs().split("\n")))


def counted(number: int, noun: str) -> str:
    """`1 worker`, `2,000 workers`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _shown(char: str) -> str:
    if char.isprintable():
        return char
    if "\udc80" <= char <= "\udcff":  # how Python holds a byte that is not UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")
