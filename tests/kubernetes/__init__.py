"""An installation on a real cluster, and the procedures of deploy/README.md: `make test-kubernetes`."""
