"""saferule_ros: repairs a robot's learned policy on board, from a list of bad logs.

The folders stand in the order in which data goes: recording, dataset, safeguard, learning, unlearning, evaluation,
attacks, policy, sim, patching, reporting, experiments, nodes, cli. A folder imports only those before it; only `nodes`
imports rclpy.
"""

__version__ = "0.1.0"
