"""What the headers of encoded images say, read without a decoder: one module per family of formats.

Each reads a header in time linear in the parts that it may have, refuses one that exceeds a cap, and gives the
image without its metadata, so that a decoder never parses anything that does not decide the pixels.
"""
