"""Encoders that were trained elsewhere, made into runs."""
