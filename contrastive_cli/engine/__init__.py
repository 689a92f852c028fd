"""The training loop and what it needs: optimizers, schedule, precision, checkpoints."""
