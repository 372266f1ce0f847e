"""From conversations to token ids: tokenizers, turn markup, and rendering with typed spans."""
