"""What every process is told: settings, logging, liveness, the names of metrics, Flower's configuration.

Comes in: the environment and an optional TOML file. Goes out: one frozen `Settings`. Next: every other package.
"""

from lowtide.config.settings import Settings, SettingsError, load_settings

__all__ = ["Settings", "SettingsError", "load_settings"]
