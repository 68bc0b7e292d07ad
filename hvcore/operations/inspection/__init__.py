"""Answers about instances and the node. Nothing here changes anything."""
