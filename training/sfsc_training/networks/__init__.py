"""Switchable networks: one set of weights, cropped to the leading channels at each width."""
