"""Robot messages to MCAP bags, and back to episodes. Works on serialized bytes: no ROS is needed to run it."""
