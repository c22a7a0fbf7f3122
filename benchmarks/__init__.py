"""Measure a running live-asr server from outside, as a client would; `python -m benchmarks.run` starts it."""
