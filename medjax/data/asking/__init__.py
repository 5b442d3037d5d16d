"""Pictures without answers: found, asked about, and made into batches."""
