"""What a policy is pretrained on: its sources, what is told, what is held out."""
