"""Pictures: projections, views, curves."""
