"""Episodes, the columns they are learned from, and which of them are to be forgotten."""
