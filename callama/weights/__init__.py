"""Checkpoints and adapters: reading, writing, converting, merging. Never unpickles a stranger's code."""
