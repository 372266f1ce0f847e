"""Proof: how well a model calls functions, measured case by case."""
