"""The Celery workers: supervisors of trainer processes, and housekeeping."""
