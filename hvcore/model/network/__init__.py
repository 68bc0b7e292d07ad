"""The networks of instances as resources, and the arguments and rules that make them. Pure."""
