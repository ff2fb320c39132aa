"""Django's backend for PostgreSQL, with an end to every wait for an answer: see base.py."""
