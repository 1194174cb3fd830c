"""What each feature costs the jobs that use it, beside jobs that use none, in one run."""
