"""`python -m saferule_ros.cli`: the same command where no `saferule` is on the path."""

from saferule_ros.cli.main import app

if __name__ == "__main__":
    app(prog_name="saferule")
