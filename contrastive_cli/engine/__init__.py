"""The training loop and what it needs: optimisers, schedule, precision, checkpoints."""
