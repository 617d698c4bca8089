"""The vector index of the embedded store: a cache of the database's vectors that FAISS searches."""
