"""A vsock device for guests of driver kvm: an example of an extension that holds something of the node."""
