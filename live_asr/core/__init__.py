"""Decides. No I/O here: the standard library and numpy only; no clock, thread, socket or log."""
