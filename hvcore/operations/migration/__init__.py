"""Moving an instance to another node, or to another run directory of this one."""
