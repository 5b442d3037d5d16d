"""Completions read on the device, each reader beside its host definition."""

# Raised when some completion is read otherwise than before: what was recorded under
# another number is not replayed. tests/rl/text/test_readings.py sees such a change.
READERS = 1
