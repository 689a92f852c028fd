"""Pickles of strangers, read by a machine of our own that runs nothing of theirs."""
