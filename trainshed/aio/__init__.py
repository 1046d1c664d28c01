"""The asynchronous client: the source from which `python -m tools.sync_client` makes the other one."""
