"""Brings weights: which files a model has, where they come from, and whether they are what they should be.

May import the full pass and below, for what a model set is loaded as. Begin with `resolver`, then `store`.
"""
