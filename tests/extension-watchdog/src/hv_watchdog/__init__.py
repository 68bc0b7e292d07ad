"""An extension of driver kvm that knows nothing of it but what any third party may."""
