"""Licence seats for guests of driver kvm: an example of an extension with its own kind of resource."""
