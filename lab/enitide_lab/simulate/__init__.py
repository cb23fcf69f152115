"""`enitide simulate`: the real operator and the real agent's pool on the strict EC2, hours in seconds.

Programs use `read_file` or `Scenario`, then `run`; see `run.py`. The command is `command.py`.
"""
