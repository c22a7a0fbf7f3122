"""Tells others that a session is over: signed webhooks out of the database, at least once.

May import storage and below. Begin with `webhook`.
"""
