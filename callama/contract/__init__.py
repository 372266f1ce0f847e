"""What is said between user, model and tools, as text and data. Knows no tokenizer and no torch."""
