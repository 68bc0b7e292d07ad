"""An extension of driver kvm: a watchdog, in a distribution of its own."""
