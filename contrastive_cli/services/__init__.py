"""Where the parts are put together; the only place that writes run directories."""
