"""An extension of driver kvm: a watchdog, as a separate distribution."""
