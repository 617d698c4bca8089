"""The store over Milvus: one collection, which any number of processes share."""
