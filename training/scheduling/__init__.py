"""Who must make room for whom: it decides, and calls the verbs of the services, which write."""
