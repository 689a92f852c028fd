"""Embeddings files, neighbours, similarity and probes."""
