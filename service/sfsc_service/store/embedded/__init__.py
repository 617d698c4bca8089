"""The embedded store: one data folder, owned by one process."""
