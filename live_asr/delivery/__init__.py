"""Tells others that a session is over."""
