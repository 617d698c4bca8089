"""One module per group of routes; each has a function `add_routes(app)`, and app.py lists the modules."""
