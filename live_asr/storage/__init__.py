"""Keeps: what was acknowledged is on disk."""
