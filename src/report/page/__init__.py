"""The report as one HTML file that opens anywhere: no server, no network."""
