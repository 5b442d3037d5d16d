"""Lists that users write of their pictures: cells, groups, parts, what is left out."""
