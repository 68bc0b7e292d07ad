# What extensions of driver ``kvm`` use. At run time `hvcore.lazy_names` reads this file: it is the one list.

from hv_kvm import typed_hooks as _typed_hooks
from hv_kvm.devices.shared.param_types import listed as listed
from hv_kvm.devices.shared.param_types import new_file as new_file
from hv_kvm.machine.bindings import Bindings as Bindings
from hv_kvm.machine.bindings import GuestFile as GuestFile
from hv_kvm.machine.bindings import Tap as Tap
from hv_kvm.machine.facts import Facts as Facts
from hv_kvm.machine.facts import MachineType as MachineType
from hv_kvm.machine.option import Opt as Opt
from hv_kvm.machine.option import Props as Props
from hv_kvm.machine.spec import Companion as Companion
from hv_kvm.machine.spec import Device as Device
from hv_kvm.machine.spec import Handed as Handed
from hv_kvm.machine.spec import Interface as Interface
from hv_kvm.machine.spec import KvmSpec as KvmSpec
from hv_kvm.machine.spec import Open as Open
from hv_kvm.machine.spec import PciDevice as PciDevice
from hv_kvm.machine.spec import Port as Port
from hv_kvm.machine.spec import Temporary as Temporary
from hv_kvm.qemu.boot_sector import boot_sector as boot_sector
from hv_kvm.qemu.boot_sector import write_disk as write_disk

impl = _typed_hooks
