"""Pairs observations and commands into episodes. The live recorder and ingest run this same code."""

from pathlib import Path
from typing import Any

from saferule_ros.recording.assembly import AssembledEpisode, Faults
from saferule_ros.recording.messages import ActionMessage, ObservationMessage
from saferule_ros.recording.open_episode import OpenEpisode

# Commands that may wait for the observation that they answer: as many as the subscription's history holds.
MAX_WAITING_COMMANDS = 2048


class EpisodeAssembler:
    """Takes messages in the order of reception and hands out episodes when they are finished.

    The two topics may run ahead of each other: a command may come before the observation that it answers, and
    the next episode may begin before the last command of this one is there. Within one topic, order is kept.

    An episode is finished when its end was seen and all its commands are there, or when the messages that
    have come since show that the missing ones are lost. An episode that stops without an end is finished
    when another begins; it is truncated.

    However long an episode is, memory does not grow with it: see `OpenEpisode`.

    Attributes:
        strays: messages that belong to no episode (late ones, commands that answer nothing, observations
            without an episode id).

    Args:
        bag_id: of the episodes that are made, until `next_bag`.
        folder: on whose disk long episodes go; None: the system's folder for temporary files.
    """

    def __init__(self, bag_id: str, folder: Path | None = None) -> None:
        self.strays = 0
        self._bag_id, self._folder = bag_id, folder
        self._open: dict[str, OpenEpisode] = {}
        self._owners: dict[int, OpenEpisode] = {}
        self._waiting: dict[int, list[tuple[ActionMessage, Any]]] = {}
        self._waiting_count = 0
        self._finished: set[str] = set()

    def next_bag(self, bag_id: str, folder: Path | None = None) -> None:
        """Episodes that begin from here on are of another bag; those that are open stay of theirs. As for __init__."""
        self._bag_id, self._folder = bag_id, folder

    def is_new(self, episode_id: str) -> bool:
        """Whether an observation with this id would open an episode."""
        return bool(episode_id) and episode_id not in self._open and episode_id not in self._finished

    def waiting_from(self, sequence: int) -> list[Any]:
        """What was received with the commands that answer observations from this one on, which have not come yet."""
        return [
            received for answered, commands in self._waiting.items() if answered >= sequence for _, received in commands
        ]

    @property
    def open_episodes(self) -> tuple[str, ...]:
        """Ids of the episodes that are not finished, oldest first."""
        return tuple(self._open)

    @property
    def held(self) -> int:
        """Messages in memory."""
        return self._waiting_count + sum(episode.held for episode in self._open.values())

    @property
    def is_waiting(self) -> bool:
        """True if an episode has ended but a command of it is still missing: see `finish_ended`."""
        return any(episode.ended for episode in self._open.values())

    def observation(self, message: ObservationMessage, received: Any = None) -> list[AssembledEpisode]:
        """Takes one observation.

        Args:
            message: decoded.
            received: anything; comes back in `AssembledEpisode.messages`.

        Returns:
            The episodes that are finished by it, oldest first.
        """
        if not message.episode_id:
            self.strays += 1
            return []
        if message.episode_id in self._finished:
            return self._again(message, received)
        episode = self._open.get(message.episode_id)
        if episode is None:
            for other in self._open.values():
                other.ended = True
            episode = self._open[message.episode_id] = OpenEpisode(message, self._bag_id, self._folder)
        if episode.add_observation(message, received):
            # The newest owns it: a publisher that was started anew counts from the beginning.
            self._owners[message.sequence] = episode
            for command, received_before in self._pop_waiting(message.sequence):
                episode.add_action(command, received_before)
        for sequence in episode.settled:
            if self._owners.get(sequence) is episode:
                del self._owners[sequence]
        episode.settled.clear()
        return self._take_complete()

    def action(self, message: ActionMessage, received: Any = None) -> list[AssembledEpisode]:
        """Takes one command; arguments and result as for `observation`."""
        sequence = message.observation_sequence
        if sequence == 0:  # answers no observation: the safe command of a shutdown
            self.strays += 1
            return []
        owner = self._owners.get(sequence)
        if owner is not None:
            owner.add_action(message, received)
        else:
            self._waiting.setdefault(sequence, []).append((message, received))
            self._waiting_count += 1
            if self._waiting_count > MAX_WAITING_COMMANDS:
                self.strays += len(self._pop_waiting(next(iter(self._waiting))))
        for episode in self._open.values():
            episode.saw_command(sequence)
        return self._take_complete()

    def finish_ended(self) -> list[AssembledEpisode]:
        """Finishes the episodes that have ended, without the commands that are still missing."""
        return [self._take(episode) for episode in list(self._open.values()) if episode.ended]

    def finish(self) -> list[AssembledEpisode]:
        """Finishes all: nothing more will come. An episode without an end is truncated."""
        finished = [self._take(episode) for episode in list(self._open.values())]
        for sequence in list(self._waiting):
            self.strays += len(self._pop_waiting(sequence))
        return finished

    def _take_complete(self) -> list[AssembledEpisode]:
        return [self._take(episode) for episode in list(self._open.values()) if episode.is_complete()]

    def _take(self, episode: OpenEpisode) -> AssembledEpisode:
        del self._open[episode.id]
        self._finished.add(episode.id)
        own = [sequence for sequence, owner in self._owners.items() if owner is episode]
        for sequence in own:
            del self._owners[sequence]
        # What answers earlier observations than these can belong to nothing that is still to come.
        for sequence in [waiting for waiting in self._waiting if waiting <= max(own, default=0)]:
            self.strays += len(self._pop_waiting(sequence))
        return episode.assemble()

    def _again(self, message: ObservationMessage, received: Any) -> list[AssembledEpisode]:
        """An id that was finished before: late, or used a second time."""
        self.strays += 1
        if message.step:
            return []
        text = f"episode id {message.episode_id!r} was recorded before; give each episode its own"
        return [AssembledEpisode(message.episode_id, None, Faults(), text, (received,), message.stamp)]

    def _pop_waiting(self, sequence: int) -> list[tuple[ActionMessage, Any]]:
        commands = self._waiting.pop(sequence, [])
        self._waiting_count -= len(commands)
        return commands
