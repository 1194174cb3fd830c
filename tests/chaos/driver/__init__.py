"""The chaos suite's driver: real worker processes under load, faults, and an oracle outside of what is tested.

    __main__.py   the command line of `make chaos`
    scenarios.py  what goes wrong, one coroutine a scenario
    trial.py      one scenario under way: its server, processes, faults and oracle
    processes.py  the processes: started, killed, frozen, ended whatever happens
    ledger.py     lines the processes append to files; they outlive a SIGKILL
    oracle.py     what the ledgers say: acknowledged, started, ended
    verdict.py    jobs lost, run twice and why, longest recovery
    outcomes.py   what the server says of each job at the end, read without Barque
    proxy.py      a network that can be cut, deaf or slow
    starvation.py what a busy machine does of itself: processes that were not let run
    stalls.py     whether the server answers at once
    progress.py   how a trial goes, on the terminal
    report.py     the verdict as a table, JSON and Markdown

What the processes under test run: tasks.py and tasks_next.py (a Barque worker's), stock.py (stock arq's worker),
bodies.py (what the jobs of both do), load.py (a producer's), skewed/ (a clock that is wrong).
"""
