"""Finished runs side by side: one self-contained page and its images."""
