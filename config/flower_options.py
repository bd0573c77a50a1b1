"""Flower's configuration file: Flower runs it by its path, and what has the name of an option here is that option.

Logins stand here and not on Flower's command line, which takes what follows a comma for the next one.
"""

from lowtide.config.flower import format_task
from lowtide.config.load import load_settings
from lowtide.config.used_by import Process

__all__ = ["format_task"]

if logins := load_settings(Process.FLOWER).flower_basic_auth:
    basic_auth = list(logins)
