"""Decides: the streaming policy, a session's states and its connection's, messages, exports.

No I/O here: the standard library and numpy only; no clock, thread, socket or log. Time is a sample index.
Begin with `session`, which the runner drives, then `streaming_policy`, which commits words.
"""
