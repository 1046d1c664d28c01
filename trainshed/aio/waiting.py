"""How the asynchronous client waits; `trainshed.waiting` is the same for the other one."""

from asyncio import sleep, to_thread

__all__ = ["sleep", "to_thread"]
