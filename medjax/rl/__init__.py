"""Reinforcement learning on arrays: boxes, rewards, advantages, losses, thresholds."""
