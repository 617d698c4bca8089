"""The engine: which width a request gets, when its batch runs, and the vector that comes out."""
