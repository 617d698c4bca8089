"""Data sets in tar shards, in the layout of WebDataset: an index of their members, the reader and the writer."""
