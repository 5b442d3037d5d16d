"""Prompts as a base model reads them: tokens, chat, patches."""
