"""Readers of published image sets, as their authors distribute them: official splits, roles and camera rule."""
