"""SFSC training: one run gives sub-models of several widths in one embedding space."""
