"""What every other package may use: errors, types, atomic files, configuration reading, run directories."""
