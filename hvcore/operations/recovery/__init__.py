"""After a crash or a failure: what is finished, undone or given back."""
