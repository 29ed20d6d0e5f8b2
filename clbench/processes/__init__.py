"""Which process this is, and how those of a run end together."""
