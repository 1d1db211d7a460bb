"""`saferule`: the verbs of patching a policy, on the command line and without ROS."""
