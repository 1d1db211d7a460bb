"""What is known of an episode without its arrays."""

from dataclasses import dataclass, fields

from saferule_ros.dataset.episode import Episode


@dataclass(frozen=True)
class EpisodeRecord:
    """One episode of a dataset: rows start … start+length-1 are its transitions; the rest as in `Episode`."""

    id: str
    bag_id: str
    start: int
    length: int
    episode_return: float
    episode_cost: float
    terminated: bool
    truncated: bool
    policy_ids: tuple[str, ...]
    digest: str
    fallbacks: int = 0
    lost: int = 0
    first_step: int = 0
    recorded_by: str = ""
    origin: str = ""

    @classmethod
    def of(cls, episode: Episode, start: int) -> "EpisodeRecord":
        """The record of an episode whose first transition is in row `start`."""
        facts = {field.name: getattr(episode, field.name) for field in fields(cls) if field.name != "start"}
        return cls(start=start, **facts)
