"""What every process is told: settings, logging, liveness, the names of metrics, Flower's configuration.

Comes in: the environment and an optional TOML file. Goes out: one frozen `Settings`. Next: every other package.
"""

from lowtide.config.load import EMULATOR, load_settings, pubsub_emulator, read_settings
from lowtide.config.settings import Settings, SettingsError
from lowtide.config.used_by import Process

__all__ = ["EMULATOR", "Process", "Settings", "SettingsError", "load_settings", "pubsub_emulator", "read_settings"]
