"""The gallery: items go in from images or vectors of any width and are found by those of any other."""
