"""The simulator: Safety-Gymnasium tasks, scripted drivers, collection, evaluation, pictures. No ROS."""
