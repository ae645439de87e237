"""Generate the schemas of what the oracle exchanges with annotation tools, from the protos and the code."""
