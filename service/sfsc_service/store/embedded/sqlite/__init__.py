"""The database of the embedded store."""
