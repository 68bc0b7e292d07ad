"""What a guest needs of the node: files, addresses, directories, programs beside QEMU."""
