"""From a spec to a guest that runs, and what can be said before."""
