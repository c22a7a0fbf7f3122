"""The full pass: who speaks when, by pyannote, and the whole recognised once more, in a process of its own.

May import inference, models, audio and storage. Begin with `process`, the server's side; `worker` is the
other.
"""
