"""Training data: read, clean, split, build, pack. Nothing is dropped in silence."""
