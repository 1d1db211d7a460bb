"""Quality of service of every topic, in one place, so that two ends can never disagree."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

# A whole episode of any Safety-Gymnasium task (1,000 steps and the final observation) fits twice: a
# recorder that is busy syncing a sealed episode to disk loses nothing meanwhile.
DATA_DEPTH = 2048
# Late joiners (a table printed after the run, a recorder that restarts) still see this many episodes.
EPISODES_DEPTH = 100


def _reliable(depth: int, durability: DurabilityPolicy = DurabilityPolicy.VOLATILE) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=durability,
    )


#: `observation`, `action`: nothing may be lost, because both become training data.
DATA = _reliable(DATA_DEPTH)
#: A robot's own topics that their publishers keep for late readers; a publisher that does not keep it does not match.
KEPT = _reliable(DATA_DEPTH, DurabilityPolicy.TRANSIENT_LOCAL)
#: Status topics: the newest state, also for whoever joins later.
LATCHED = _reliable(1, DurabilityPolicy.TRANSIENT_LOCAL)
#: `policy_server/heartbeat`: only the newest tells anything.
HEARTBEAT = _reliable(1)
#: A robot's own topics, as robot_bridge reads them: whatever their publishers offer, best effort matches it.
SENSORS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=100,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)
#: A robot's own commands, of robot_bridge: a reliable writer serves any reader.
COMMANDS = _reliable(10)
#: `dataset_recorder/episodes`, `sim_bridge/episodes`.
EPISODES = _reliable(EPISODES_DEPTH, DurabilityPolicy.TRANSIENT_LOCAL)
#: `/clock`: a reliable writer serves best-effort readers (rclpy's time source) and reliable ones alike.
CLOCK = _reliable(1)
#: `/diagnostics`, images.
REPORTS = _reliable(10)
