"""What `clr report` shows: collected from a run and measured anew, section by section."""
