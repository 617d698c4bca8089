"""What training and serving share: the bundle's format, preprocessing, runner and retrieval metrics."""
