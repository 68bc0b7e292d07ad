"""Networks of the node: links, packet filters, and the programs that join a guest to them."""
