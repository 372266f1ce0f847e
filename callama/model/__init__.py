"""The Llama 3 transformer and LoRA in native PyTorch. Knows torch and nothing else."""
