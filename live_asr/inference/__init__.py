"""The inference process: what is asked of the models live, in which order, and what happens when it dies.

May import models, audio and storage. Begin with `local_engine`, the server's side; `worker` is the other.
"""
