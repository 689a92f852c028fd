"""A trained encoder taken out, for other libraries. One file a format."""
