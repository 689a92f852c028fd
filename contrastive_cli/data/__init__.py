"""Images on their way from files to a memory-mapped uint8 array."""
