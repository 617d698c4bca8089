"""Readers of published image sets in the layout of their archives: official splits, roles and camera rule."""
