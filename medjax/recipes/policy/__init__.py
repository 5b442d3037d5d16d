"""What runs that train a policy share: its opening, its stages, scoring."""
