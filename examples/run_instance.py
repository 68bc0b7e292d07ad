import sys

import hvcore

node = hvcore.Node()
instance = hvcore.load_instance(sys.argv[1])
driver = node.driver(instance.driver)
print(driver.plan(instance).explain())
driver.start(instance, deadline_s=30)
for info in node.instances():
    print(info.name, info.driver, info.state, info.memory_mib, info.vcpus)
print("stopped by", node.stop(instance.name, deadline_s=60).stopped_by)
