"""Recordings as jobs: from a queue, over HTTP or out of folders; answered by webhook."""
