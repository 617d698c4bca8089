"""Where items are kept: the protocol that every store implements, and the stores."""
