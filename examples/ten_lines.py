import hvcore

node = hvcore.Node()  # its state is in /run/hvcore, or where HVCORE_RUN_DIR says
instance = hvcore.load_instance("web1.toml")
kvm = node.driver("kvm")
print(kvm.start(instance, deadline_s=30).state)
for info in node.instances():
    print(info.name, info.state, info.memory_mib, "MiB", info.vcpus, "vcpus")
print("stopped by", node.stop("web1", deadline_s=30).stopped_by)
print(len(node.instances()), "left")
