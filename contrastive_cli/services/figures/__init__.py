"""What `clr plot` draws, computed from runs and files."""
