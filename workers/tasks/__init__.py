"""The tasks that ship, one module a domain. Importing this package registers them all.

`http`: fetch_url, download_file, deliver_webhook · `files`: read_file, write_file, append_file, checksum_file,
list_files · `database`: query_database, insert_rows · `compute`: compress_file, and `run_in_process` for
CPU-bound tasks of your own.
"""

from workers.tasks.compute import compress_file, run_in_process
from workers.tasks.database import insert_rows, query_database
from workers.tasks.files import append_file, checksum_file, list_files, read_file, write_file
from workers.tasks.http import deliver_webhook, download_file, fetch_url

__all__ = [
    "append_file",
    "checksum_file",
    "compress_file",
    "deliver_webhook",
    "download_file",
    "fetch_url",
    "insert_rows",
    "list_files",
    "query_database",
    "read_file",
    "run_in_process",
    "write_file",
]
