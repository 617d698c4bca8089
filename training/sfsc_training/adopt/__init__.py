"""Networks that were trained elsewhere become widths of a bundle."""
