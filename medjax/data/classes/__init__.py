"""Classes and grades of pictures: tasks, users' files, words, batches."""
