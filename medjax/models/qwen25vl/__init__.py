"""Qwen2.5-VL of any size: vision tower, decoder with a cache, checkpoint folders."""
