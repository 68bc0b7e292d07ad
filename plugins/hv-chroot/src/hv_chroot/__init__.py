"""Driver ``chroot`` of hvcore: a root file system on a mounted disk, run by a start and a stop script of its own."""
