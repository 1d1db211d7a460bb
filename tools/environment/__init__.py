"""The set-up step: a virtual environment with ROS 2 in it, and this package built on top.

Standard library only, since it runs before anything is installed; Python 3.9 or newer, since a sourced
distribution may bring an older one.
"""
