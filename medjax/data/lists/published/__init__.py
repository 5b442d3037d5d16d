"""The layouts of published data sets, read into what boxes and classes both need."""
