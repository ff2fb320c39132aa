"""Training with torch: the loop, its parts, the checkpoint file, the trainer process. No Django here."""
