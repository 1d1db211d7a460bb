"""The whole loop as a person would go through it: real processes, real messages, a table at the end."""
