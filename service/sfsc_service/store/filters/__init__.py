"""The filter language: JSON documents are checked and become operators, which give their SQL."""
