"""Action goals that wait for one long job, without a thread or a coroutine per goal.

rclpy (up to Kilted at least) blocks a thread with a goal's execute callback, or polls it as fast as it can
while it awaits something, which costs a robot a core. So a goal is only accepted at first (feedback and
cancelling work in that state), and executed when its result is known.
"""

from collections.abc import Callable

from rclpy.action.server import ServerGoalHandle

from saferule_ros.action import Unlearn


class Goals:
    """The goals that follow the running job."""

    def __init__(self) -> None:
        self._waiting: list[ServerGoalHandle] = []
        self._unanswered = 0

    @property
    def unanswered(self) -> int:
        """Goals that have no result yet."""
        return self._unanswered

    def follow(self, goal: ServerGoalHandle) -> None:
        """From now on this goal gets the job's feedback, and in the end its result."""
        self._waiting.append(goal)
        self._unanswered += 1

    def feed(self, feedback: Unlearn.Feedback) -> None:
        """Passes feedback on to every goal."""
        for goal in self._waiting:
            goal.publish_feedback(feedback)

    def finish(self, result: Unlearn.Result) -> None:
        """Ends every goal: succeeded, cancelled where that was asked for, else aborted."""
        waiting, self._waiting = self._waiting, []
        for goal in waiting:
            goal.execute(self._ending(result))

    def refuse(self, goal: ServerGoalHandle, result: Unlearn.Result) -> None:
        """Aborts a goal with a result that says why: a rejection could not carry a message."""
        self._unanswered += 1
        goal.execute(self._ending(result))

    def _ending(self, result: Unlearn.Result) -> Callable[[ServerGoalHandle], Unlearn.Result]:
        def end(goal: ServerGoalHandle) -> Unlearn.Result:
            self._unanswered -= 1
            if result.success:
                goal.succeed()
            elif goal.is_cancel_requested:
                goal.canceled()
            else:
                goal.abort()
            return result

        return end
