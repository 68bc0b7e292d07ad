# What extensions of driver ``kvm`` use. At run time `hvcore.lazy_names` reads this file: it is the one list.

from hv_kvm import typed_hooks as _typed_hooks
from hv_kvm.devices.shared.block_nodes import descriptors as descriptors
from hv_kvm.devices.shared.block_nodes import file_props as file_props
from hv_kvm.devices.shared.params import listed as listed
from hv_kvm.devices.shared.params import new_file as new_file
from hv_kvm.machine.facts import Facts as Facts
from hv_kvm.machine.facts import MachineType as MachineType
from hv_kvm.machine.option import Opt as Opt
from hv_kvm.machine.option import Props as Props
from hv_kvm.machine.option import QmpCommand as QmpCommand
from hv_kvm.machine.option import as_command as as_command
from hv_kvm.machine.resource import GUEST_DIRECTORY as GUEST_DIRECTORY
from hv_kvm.machine.resource import GUEST_USER as GUEST_USER
from hv_kvm.machine.resource import HOST_NETWORK as HOST_NETWORK
from hv_kvm.machine.resource import Bindings as Bindings
from hv_kvm.machine.resource import BlockModule as BlockModule
from hv_kvm.machine.resource import DataFile as DataFile
from hv_kvm.machine.resource import GuestFile as GuestFile
from hv_kvm.machine.resource import HostNetwork as HostNetwork
from hv_kvm.machine.resource import Image as Image
from hv_kvm.machine.resource import KvmOnly as KvmOnly
from hv_kvm.machine.resource import MemoryFile as MemoryFile
from hv_kvm.machine.resource import Outside as Outside
from hv_kvm.machine.resource import PrivateCopy as PrivateCopy
from hv_kvm.machine.resource import Shown as Shown
from hv_kvm.machine.resource import ShownFile as ShownFile
from hv_kvm.machine.spec import Device as Device
from hv_kvm.machine.spec import KvmSpec as KvmSpec
from hv_kvm.machine.spec import PciDevice as PciDevice
from hv_kvm.machine.spec import when_planned as when_planned
from hv_kvm.qemu.boot_sector import boot_sector as boot_sector
from hv_kvm.qemu.boot_sector import write_disk as write_disk
from hv_kvm.qmp import QmpClient as QmpClient

impl = _typed_hooks
