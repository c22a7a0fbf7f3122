"""Settings: from defaults, a file, the environment and flags, each with where it came from.

May import core. Begin with `settings`; `reference` writes docs/configuration.md from it.
"""
