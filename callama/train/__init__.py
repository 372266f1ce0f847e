"""Fine-tuning: one loop, whatever runs underneath."""
