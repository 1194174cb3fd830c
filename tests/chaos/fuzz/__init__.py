"""What the fuzz tests are made of: bytes that are wrong (mutations.py), and the tasks they are meant for (tasks.py)."""
