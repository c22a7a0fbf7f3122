"""Live captions while people speak: a streaming Whisper server that keeps every word."""

__version__ = "0.2.0"
