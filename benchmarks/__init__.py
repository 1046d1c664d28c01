"""Measurements that anyone can repeat; each is one command and prints a table."""
