"""One patch, from request to report: the job that the nodes and the command line both run."""
