"""What is said between user, model and tools, as text and data. Knows no tokenizer and no torch."""

# Raised whenever equal conversations would render to other text; recorded in every built data set.
CONTRACT_VERSION = 1
