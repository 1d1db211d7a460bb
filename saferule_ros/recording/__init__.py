"""Robot messages to MCAP bags, and back to episodes. Works on serialized bytes, without ROS."""
