"""Define the options and help texts of commands. A command's implementation is imported when the command runs."""
