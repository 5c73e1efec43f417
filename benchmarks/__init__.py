"""Programs that measure time, memory, traffic and exactness; see README.md."""
