"""Fine-tune a pretrained network under another border."""
