"""Where the parts are put together; the only place that writes run directories.

Floors, lowest first: configuration, artifacts, metrics < inference < training < evaluation, figures; curation beside
training.
"""
