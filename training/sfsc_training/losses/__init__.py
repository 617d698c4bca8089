"""Losses per width through the shared classifier."""
