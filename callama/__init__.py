"""callama fine-tunes Llama 3 models for function calling, from raw data to a measured proof."""

__version__ = "0.1.0"
