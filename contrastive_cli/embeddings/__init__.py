"""Embeddings files, neighbors, similarity and probes.

Rooms: `pickles` and `probes` use nothing of each other; `search` reads `pieces`; the files beside them use all.
"""
