"""One adapter for each model, behind the protocols of `interfaces`; and the devices they run on.

The only room, beside the full pass, that imports the models' libraries, and does so when a model is built.
Begin with `interfaces`.
"""
