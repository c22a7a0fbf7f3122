"""Drives: feeds a session what arrives, performs what it decides, and makes its result.

May import delivery, inference, audio, storage and below. Begin with `registry` (all sessions), then
`runner` (one).
"""
