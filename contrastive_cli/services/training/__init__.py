"""Pretraining and finetuning: set up, steps, loop, resuming."""
