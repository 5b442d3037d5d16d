"""Systems that train a policy: what boxes and classes share."""
