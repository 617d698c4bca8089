"""One module per group of routes; each has an `add_…(app)` function that puts them on an app."""
