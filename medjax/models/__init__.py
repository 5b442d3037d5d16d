"""Networks as init and apply on parameter trees; the only folder that imports flax."""
