"""A contract says what a robot's own topics mean: observation, action, reward, cost, episodes. Live and in bags."""
