"""What writes parts of the documents; a package for the reason that `benchmarks` is one."""
