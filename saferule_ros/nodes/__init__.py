"""ROS nodes: thin shells around the folders that know nothing of ROS. The only place that imports rclpy."""
