"""Driver ``chroot`` of hvcore: a root file system that its own start and stop scripts run."""
