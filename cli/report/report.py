"""`Report`: from the first result to the file."""

import shlex
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from lowtide.cli.answers.progress import ProgressBar, rounded
from lowtide.cli.report import page
from lowtide.cli.report.gathered import Gathered
from lowtide.cli.report.thumbnails import thumbnails
from lowtide.cli.sources.sources import Source
from lowtide.config import Settings
from lowtide.config.redact import redacted

COMMAND_CHARS = 2_000
"""A shell may have named thousands of files."""


class Report:
    """A report that `path` shall hold. Raises NoPlaceForReport at once if it can't."""

    def __init__(self, path: Path) -> None:
        page.check_place(path)
        self.path = path
        self.gathered = Gathered()
        self._when = datetime.now().astimezone()

    def write(
        self, sources: Iterable[Source], settings: Settings, *, model: str, per_second: float | None, output: str
    ) -> None:
        """Make thumbnails of those of `sources` that have a row, and write the page. Raises NoPlaceForReport."""
        named = {source.request_id: source for source in sources}
        self.gathered.sort(named)
        pictured = [named[row.name] for row in self.gathered.rows if row.name in named]
        with ProgressBar("report", len(pictured)) as progress:
            small = dict(thumbnails(pictured, settings, made=lambda: progress.advance(failed=False)))
        facts = page.Facts(
            model=model,
            command=_command(sys.argv),
            settings=_settings(settings),
            when=f"{self._when:%Y-%m-%d %H:%M %Z}",
            version=version("lowtide"),
            per_second="" if per_second is None else rounded(per_second),
            output=output,
        )
        page.write(self.path, self.gathered, facts, small)


def _command(arguments: list[str]) -> str:
    command = shlex.join(["lowtide", *(redacted(argument) for argument in arguments[1:])])
    return command if len(command) <= COMMAND_CHARS else f"{command[:COMMAND_CHARS]}…"


def _settings(settings: Settings) -> Mapping[str, str]:
    """What was set and is no secret."""
    secret = {f"LOWTIDE_{name.upper()}" for name, field in Settings.model_fields.items() if not field.repr}
    written = settings.environment().items()
    return {name: redacted(value) for name, value in written if value and name not in secret}
