"""Trackers of experiments, for those who ask. One file a library, imported only when it is named."""
