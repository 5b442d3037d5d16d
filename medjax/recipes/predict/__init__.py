"""`--mode=predict` of each system of a policy."""
