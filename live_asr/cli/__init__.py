"""The commands of `live-asr`, a module each.

May import everything. Begin with `main`, which reads the flags and hands over.
"""
