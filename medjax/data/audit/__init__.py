"""What is measured of a user's pictures before a run: facts, their cache, copies."""
