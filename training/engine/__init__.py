"""Training with torch: the loop, its parts, the checkpoint file and the trainer process. Knows nothing of Django."""
