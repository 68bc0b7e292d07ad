"""What the node does for each resource of an instance: check it, show it, get it, prove it, take it back.

A module holds one kind or a few that belong together. `kind` says what a kind is, `kinds` has the loops over all of them.
"""
