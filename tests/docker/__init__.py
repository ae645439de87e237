"""The images, built and run by an engine that the tests start; `make test-docker`."""
