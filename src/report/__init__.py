"""From the table of all runs to what people look at: the numbers of a chart, then its drawing."""
