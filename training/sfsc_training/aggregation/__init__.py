"""From one gradient per width to one update of the shared parameters."""
