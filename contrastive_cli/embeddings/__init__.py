"""Embeddings files, neighbors, similarity and probes.

Rooms: `probes` uses nothing else; `search` reads `pieces`; the files beside them use both, and the package `pickles`.
"""
