"""Comparing methods: cells of task, algorithm, attack and ratio with several seeds; one cell, or a grid of them."""
