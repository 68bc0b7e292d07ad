"""What several families use: buses, block nodes, servers of a display, types of parameters."""
