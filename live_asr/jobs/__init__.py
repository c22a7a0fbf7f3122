"""Recordings as jobs: from a queue, over HTTP or out of folders; each has one effect, told by webhook.

May import sessions and below. Begin with `pipeline`, which takes one job from its message to its result.
"""
