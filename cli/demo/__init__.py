"""`barque demo`: a real run on this machine, from an empty folder to a checked report.

Each module owns one thing: `command` the command line, `run` the order of events, `items` what is fetched,
`faults` and `server` the misbehaving HTTP server, `processes` the child processes, `tasks` what the workers run,
`attempts` what their logs say, `verify` whether every row is right, `progress` the live view, `report` the result.
"""
