"""Batched augmentation on the device, with counter-based draws."""
