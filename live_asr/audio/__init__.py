"""Sound from bytes: raw PCM decoded here, containers by FFmpeg in a process of its own; resampled to 16 kHz.

Knows nothing of sessions. May import core, config and storage. Begin with `decoder`: what a session feeds.
"""
