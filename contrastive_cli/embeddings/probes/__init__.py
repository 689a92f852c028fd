"""Heads on frozen features: linear, MLP, kNN vote; and which labels they may see."""
