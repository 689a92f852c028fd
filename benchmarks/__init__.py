"""What is measured, and how: `python -m benchmarks.NAME --help`.

A package and not a bare folder: some release of another package brings `benchmarks` of its own, which came first.
"""
