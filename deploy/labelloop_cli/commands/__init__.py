"""The command line: options and help. What a command does is imported when it is carried out."""
