"""Services as forks of a process that has imported them already: a start takes a tenth of the processor time."""
