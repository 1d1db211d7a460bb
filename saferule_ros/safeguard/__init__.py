"""Finite-state safety specifications: read, checked, run beside a robot, and used to label what it did."""
