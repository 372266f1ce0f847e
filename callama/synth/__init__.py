"""Synthetic conversations for function calling: a catalogue of tools, scenarios and the engine that plays them."""
