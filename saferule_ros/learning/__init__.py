"""Offline safe reinforcement learning from an EpisodeDataset: learners, their trainer and checkpoints."""
