"""The command line: argument parsing, flags of RunConfig, errors and exit statuses."""
