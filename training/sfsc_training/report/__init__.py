"""A page that compares finished runs, with its figures."""
