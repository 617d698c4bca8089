"""The command `sfsc`: one module per command."""
