"""Units of the ROS clock."""

NANOSECONDS = 10**9  # in a second
