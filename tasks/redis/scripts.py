"""Lua scripts, which lie beside the code that calls them."""

from functools import cache
from importlib.resources import files


@cache
def lua(package: str, *names: str) -> str:
    """Those files of a package, one after the other: what the first defines the later ones use."""
    return "".join(files(package).joinpath(f"{name}.lua").read_text(encoding="utf-8") for name in names)
