"""The fields of all items as columns in memory: filters are judged by them, without asking the database."""
