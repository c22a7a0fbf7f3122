"""Keeps: what was acknowledged is on disk; what became of sessions is in a database.

May import core and config. Begin with `spool`, then `database`.
"""
