"""power_cut.py MOUNT: cuts a mounted ext4 or XFS file system off from its device, as a power cut would.

Its shutdown ioctl (number 125 of group 'X', a 32-bit number in) with the flag "do not flush the log": nothing that was
not synced before reaches the device any more. Needs root, and a file system that nobody else uses.
"""

import fcntl
import os
import struct
import sys

READ, SIZE, GROUP, NUMBER = 2 << 30, 4 << 16, ord("X") << 8, 125
NO_LOG_FLUSH = 2

mount = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
fcntl.ioctl(mount, READ | SIZE | GROUP | NUMBER, struct.pack("I", NO_LOG_FLUSH))
