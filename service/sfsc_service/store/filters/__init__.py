"""The filter language: JSON documents are checked and become terms, which every store compiles for itself."""
