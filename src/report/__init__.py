"""Reports: the table of all runs as charts, tables and an HTML page; analyses of single runs."""
