"""An instance on its way to another node: rules and messages."""
