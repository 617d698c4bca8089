"""The vectors on disk: append-only files, each vector under the sequence number of its version."""
