"""Weights of others: read without running anything, and fitted to an encoder whatever their keys are called."""
