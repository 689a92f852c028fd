"""A trained run taken from disk and used on images."""
