"""What a run measured, as numbers that stay and as a page that people read."""
