"""Records of instances on disk, and one operation that changes one."""
