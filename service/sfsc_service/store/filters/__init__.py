"""The filter language, and what it is compiled to."""
